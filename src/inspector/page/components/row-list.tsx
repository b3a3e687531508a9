/** A list of any length of which only the rows that are seen exist. */
import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import { extentOf, isScaled, lastTop, ROW_HEIGHT, rowsIn, scrollTopOf, topRow, topShowing } from './row-window.ts';

export interface RowListProps {
  readonly rows: number;
  /** Stay at the end, whatever comes. */
  readonly follow: boolean;
  /** The reader moved by himself: to the very end or away from it. */
  readonly onFollow: (follow: boolean) => void;
  readonly selected: number | undefined;
  readonly onSelect: (row: number) => void;
  /** Rows that went at the start since the last time: what is seen stays. */
  readonly shifted: number;
  /** A row to bring into the middle, once for each new `serial`. */
  readonly reveal: { readonly row: number; readonly serial: number } | undefined;
  readonly children: (row: number) => ComponentChildren;
  readonly testId: string;
  readonly label: string;
}

export function RowList(props: RowListProps) {
  const { rows, follow, selected, shifted, reveal, children, testId, label } = props;
  const element = useRef<HTMLDivElement>(null);
  const [height, setHeight] = useState(0);
  const [top, setTop] = useState(0);
  /** What we set ourselves: its scroll event says nothing new. */
  const placed = useRef(0);
  const seen = useRef({ shifted, serial: 0 });

  useLayoutEffect(() => {
    const box = element.current!;
    const observer = new ResizeObserver(() => setHeight(box.clientHeight));
    observer.observe(box);
    setHeight(box.clientHeight);
    return () => observer.disconnect();
  }, []);

  let current = Math.min(top - (shifted - seen.current.shifted), lastTop(rows, height));
  if (follow) current = lastTop(rows, height);
  if (reveal !== undefined && reveal.serial !== seen.current.serial && height > 0) {
    current = Math.min(Math.max(reveal.row - rowsIn(height) / 2, 0), lastTop(rows, height));
  }
  current = Math.max(current, 0);

  useLayoutEffect(() => {
    const box = element.current!;
    if (height > 0) seen.current = { shifted, serial: reveal?.serial ?? 0 };
    placed.current = scrollTopOf(current, rows, height);
    if (Math.abs(box.scrollTop - placed.current) > 0.5) box.scrollTop = placed.current;
    placed.current = box.scrollTop;
    if (current !== top) setTop(current);
  });

  const moveTo = (next: number) => {
    const bounded = Math.min(Math.max(next, 0), lastTop(rows, height));
    setTop(bounded);
    const isAtEnd = bounded >= lastTop(rows, height) - 0.01;
    if (isAtEnd !== follow) props.onFollow(isAtEnd);
  };
  const choose = (row: number) => {
    if (rows === 0) return;
    const bounded = Math.min(Math.max(row, 0), rows - 1);
    props.onSelect(bounded);
    if (follow && bounded < rows - 1) props.onFollow(false);
    setTop(topShowing(bounded, current, rows, height));
  };

  const first = Math.floor(current);
  const count = Math.min(Math.ceil(rowsIn(height)) + 1, rows - first);
  const shown = Array.from({ length: Math.max(count, 0) }, (_, n) => first + n);
  const scrollTop = scrollTopOf(current, rows, height);
  const paneTop = isScaled(rows) ? scrollTop - (current - first) * ROW_HEIGHT : first * ROW_HEIGHT;
  return (
    // A table of a million rows cannot be one.
    <div
      ref={element}
      class="window"
      role="listbox"
      aria-label={label}
      tabIndex={0}
      data-testid={testId}
      data-rows={rows}
      onScroll={event => {
        const box = event.currentTarget;
        if (Math.abs(box.scrollTop - placed.current) < 1) return;
        placed.current = box.scrollTop;
        moveTo(topRow(box.scrollTop, rows, height));
      }}
      onWheel={event => {
        if (!isScaled(rows)) return;
        event.preventDefault();
        const unit = event.deltaMode === 1 ? 1 : event.deltaMode === 2 ? rowsIn(height) : 1 / ROW_HEIGHT;
        moveTo(current + event.deltaY * unit);
      }}
      onKeyDown={event => {
        const page = Math.max(Math.floor(rowsIn(height)) - 1, 1);
        const at = selected ?? (follow ? rows - 1 : first);
        const moves: Readonly<Record<string, number>> = {
          ArrowDown: at + 1,
          ArrowUp: at - 1,
          PageDown: at + page,
          PageUp: at - page,
          Home: 0,
          End: rows - 1,
        };
        const to = moves[event.key];
        if (to === undefined) return;
        event.preventDefault();
        choose(to);
        if (event.key === 'End') props.onFollow(true);
      }}
    >
      <div class="extent" style={{ height: `${extentOf(rows)}px` }} />
      <div class="pane" style={{ top: `${paneTop}px` }}>
        {shown.map(row => children(row))}
      </div>
    </div>
  );
}
