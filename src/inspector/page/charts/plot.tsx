/** One small plot over the last minutes, drawn by uPlot; all plots of the page share their pointer. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { colour, colours } from '../store/theme.ts';

export interface Line {
  readonly label: string;
  /** A custom property, e.g. `--blue`. */
  readonly colour: string;
  readonly dashed?: boolean;
}

interface Props {
  readonly lines: readonly Line[];
  /** Seconds, and one list for each line. */
  readonly times: readonly number[];
  readonly values: readonly (readonly (number | null)[])[];
  /** Seconds that are shown, up to now. */
  readonly seconds: number;
  readonly format: (value: number) => string;
  /** Largest value of the axis; missing: as needed. */
  readonly top?: number;
  /** Steps of the axis are powers of two: for bytes. */
  readonly binary?: boolean;
  /** Raised when there are new values: the lists are the same ones. */
  readonly version: number;
}

const SYNC_KEY = 'rates';
const HEIGHT = 122;
/** A plot without anything still has an axis. */
const LEAST_TOP = 1;
const BINARY_STEPS = Array.from({ length: 50 }, (_, n) => 2 ** n);

export function Plot({ lines, times, values, seconds, format, top, binary = false, version }: Props) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const shown = useRef({ format, top, seconds, binary });
  shown.current = { format, top, seconds, binary };
  const painted = colours.value;
  const lineKey = JSON.stringify(lines);
  // Made anew where lines or colours change; values are set below.
  useEffect(() => {
    const box = element.current!;
    const made = new uPlot(optionsOf(lines, box.clientWidth, shown), dataOf(times, values), box);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: box.clientWidth, height: HEIGHT }));
    observer.observe(box);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = undefined;
    };
  }, [lineKey, painted]);
  // The version stands for the values.
  useEffect(() => {
    plot.current?.setData(dataOf(times, values));
  }, [version, seconds]);
  return <div class="plot" ref={element} />;
}

function dataOf(times: readonly number[], values: readonly (readonly (number | null)[])[]): uPlot.AlignedData {
  return [times as number[], ...(values as (number | null)[][])];
}

interface Shown {
  readonly current: {
    readonly format: (value: number) => string;
    readonly top: number | undefined;
    readonly seconds: number;
    readonly binary: boolean;
  };
}

function optionsOf(lines: readonly Line[], width: number, shown: Shown): uPlot.Options {
  const axis = {
    stroke: colour('--faint'),
    font: '11px system-ui',
    ticks: { show: false },
    grid: { stroke: colour('--line'), width: 1 },
  };
  return {
    width: Math.max(width, 50),
    height: HEIGHT,
    cursor: { sync: { key: SYNC_KEY }, drag: { x: false, y: false }, points: { size: 5 } },
    legend: { show: false },
    padding: [8, 8, 0, 0],
    scales: {
      x: {
        time: true,
        range: (_plot, _least, largest) => {
          const end = largest ?? Date.now() / 1000;
          return [end - shown.current.seconds, end];
        },
      },
      y: { range: (_plot, _least, largest) => [0, shown.current.top ?? Math.max((largest ?? 0) * 1.1, LEAST_TOP)] },
    },
    axes: [
      {
        ...axis,
        size: 24,
        space: 90,
        values: (_plot, splits) => splits.map(one => new Date(one * 1000).toTimeString().slice(0, 8)),
      },
      {
        ...axis,
        size: 68,
        space: 28,
        ...(shown.current.binary ? { incrs: BINARY_STEPS } : {}),
        values: (_plot, splits) => splits.map(one => shown.current.format(one)),
      },
    ],
    series: [
      {},
      ...lines.map(({ label, colour: name, dashed }) => ({
        label,
        stroke: colour(name),
        width: 1.5,
        points: { show: false },
        ...(dashed ? { dash: [5, 3] } : {}),
      })),
    ],
  };
}
