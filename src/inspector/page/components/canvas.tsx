/** A canvas as large as its place, sharp on every screen, painted again when what it shows changes. */

import type { CanvasHTMLAttributes } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';

interface Props extends Omit<CanvasHTMLAttributes<HTMLCanvasElement>, 'ref' | 'height' | 'style'> {
  /** CSS pixels; the width is that of its place. */
  readonly height: number;
  readonly paint: (context: CanvasRenderingContext2D, width: number, height: number) => void;
  readonly testId: string;
}

export function Canvas({ height, paint, testId, ...rest }: Props) {
  const element = useRef<HTMLCanvasElement>(null);
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const canvas = element.current!;
    const observer = new ResizeObserver(() => setWidth(canvas.clientWidth));
    observer.observe(canvas);
    setWidth(canvas.clientWidth);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const canvas = element.current!;
    const scale = devicePixelRatio || 1;
    const pixels = { width: Math.round(width * scale), height: Math.round(height * scale) };
    if (canvas.width !== pixels.width) canvas.width = pixels.width;
    if (canvas.height !== pixels.height) canvas.height = pixels.height;
    const context = canvas.getContext('2d');
    if (context === null || width === 0) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    paint(context, width, height);
  });
  return <canvas ref={element} style={{ height: `${height}px` }} data-testid={testId} {...rest} />;
}
