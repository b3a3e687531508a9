/** How much of everything happens in a second. */
import { useState } from 'preact/hooks';
import type { ViewProps } from '../app.tsx';
import { type Line, Plot } from '../charts/plot.tsx';
import { Panel } from '../components/panel.tsx';
import { Unavailable, unavailableIn } from '../components/unavailable.tsx';
import { formatBytes, formatDuration, formatPercent, formatQuantity } from '../format.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import type { LatencySummary } from '../store/latency.ts';
import type { RateName } from '../store/rates.ts';

interface PlotDefinition {
  readonly id: string;
  readonly title: string;
  readonly series: readonly (Line & { readonly rate: RateName })[];
  readonly format: (value: number) => string;
  readonly top?: number;
  readonly binary?: boolean;
}

const bytes = (value: number) => `${formatBytes(value)}/s`;
const PLOTS: readonly PlotDefinition[] = [
  {
    id: 'dma-bytes',
    title: 'DMA, bytes/s',
    series: [
      { rate: 'bytesRead', label: 'read', colour: '--green' },
      { rate: 'bytesWritten', label: 'written', colour: '--orange', dashed: true },
    ],
    format: bytes,
    binary: true,
  },
  {
    id: 'dma',
    title: 'DMA, transfers/s',
    series: [{ rate: 'dma', label: 'transfers', colour: '--blue' }],
    format: formatQuantity,
  },
  {
    id: 'hit-rate',
    title: 'TLB hit rate',
    series: [{ rate: 'hitRate', label: 'hits', colour: '--green' }],
    format: value => `${Math.round(value * 100)} %`,
    top: 1,
  },
  {
    id: 'walks',
    title: 'Page walks/s',
    series: [{ rate: 'walks', label: 'walks', colour: '--sky' }],
    format: formatQuantity,
  },
  {
    id: 'invalidations',
    title: 'Invalidations/s',
    series: [{ rate: 'invalidations', label: 'invalidations', colour: '--purple' }],
    format: formatQuantity,
  },
  {
    id: 'faults',
    title: 'Faults/s',
    series: [{ rate: 'faults', label: 'faults', colour: '--vermillion' }],
    format: formatQuantity,
  },
  {
    id: 'registers',
    title: 'Register accesses/s',
    series: [{ rate: 'registers', label: 'accesses', colour: '--blue' }],
    format: formatQuantity,
  },
];

const RANGES = [
  { seconds: 60, text: '1 min' },
  { seconds: 180, text: '3 min' },
  { seconds: 600, text: '10 min' },
] as const;

export function RatesView({ store }: ViewProps) {
  const [seconds, setSeconds] = useState(60);
  const reason = unavailableIn(store, 'rates') ?? store.unavailable.value.statistics;
  if (reason !== undefined) return <Unavailable title="There are no counters." reason={reason} />;
  const version = store.ratesVersion.value;
  const { rates } = store;
  return (
    <div class="view" data-testid="rates">
      <div class="tools">
        <span class="faint">counters of the machine, read twice a second while this is shown</span>
        <span class="spring" />
        {RANGES.map(range => (
          <button
            key={range.seconds}
            type="button"
            aria-pressed={range.seconds === seconds}
            data-testid={`range-${range.seconds}`}
            onClick={() => setSeconds(range.seconds)}
          >
            {range.text}
          </button>
        ))}
      </div>
      <div class="scroll plots">
        {PLOTS.map(({ id, title, series, format, top, binary }) => (
          <Panel
            key={id}
            title={title}
            testId={`plot-${id}`}
            tools={series.map(({ rate, label, colour, dashed }) => (
              <span key={rate} class="latest">
                {series.length > 1 && (
                  <span class={`tone-${colour.slice(2)} faint`}>
                    <span class={`key-line ${dashed ? 'dashed' : ''}`} />
                    {label}{' '}
                  </span>
                )}
                <span data-testid={`latest-${rate}`}>{latest(rates.latest[rate], rate, format)}</span>
              </span>
            ))}
          >
            <Plot
              lines={series}
              times={rates.times}
              values={series.map(({ rate }) => rates.series[rate])}
              seconds={seconds}
              format={format}
              version={version}
              binary={binary ?? false}
              {...(top === undefined ? {} : { top })}
            />
          </Panel>
        ))}
        <Latency store={store} />
      </div>
    </div>
  );
}

function latest(value: number | null, rate: RateName, format: (value: number) => string): string {
  if (value === null) return '–';
  return rate === 'hitRate' ? formatPercent(value) : format(value);
}

function Latency({ store }: { readonly store: InspectorStore }) {
  void store.calmVersion.value;
  const isOn = store.measuresLatency.value;
  const { doorbell, faultInterrupt } = store.latencies;
  return (
    <Panel
      title="Latency"
      testId="latency"
      tools={
        <label class="check">
          <input
            type="checkbox"
            checked={isOn}
            data-testid="measure-latency"
            onChange={event => store.measureLatency(event.currentTarget.checked)}
          />
          measure
        </label>
      }
    >
      <div class="latency">
        <table>
          <thead>
            <tr>
              <th class="wide">from … to</th>
              <th class="right">seen</th>
              <th class="right">median</th>
              <th class="right">99 %</th>
              <th class="right">longest</th>
            </tr>
          </thead>
          <tbody>
            <LatencyRow title="register write to the device's next DMA" summary={doorbell.summary()} />
            <LatencyRow title="fault to the IOMMU's next interrupt" summary={faultInterrupt.summary()} />
          </tbody>
        </table>
        <p class="faint">
          {isOn
            ? "By the machine's clock, of the last 2000."
            : 'Off: it needs records of registers and DMA, which cost some speed.'}
        </p>
      </div>
    </Panel>
  );
}

function LatencyRow({ title, summary }: { readonly title: string; readonly summary: LatencySummary }) {
  const time = (nanoseconds: number) => (Number.isNaN(nanoseconds) ? '–' : formatDuration(nanoseconds));
  return (
    <tr>
      <td class="wrap">{title}</td>
      <td class="mono right">{summary.count}</td>
      <td class="mono right">{time(summary.median)}</td>
      <td class="mono right">{time(summary.p99)}</td>
      <td class="mono right">{time(summary.longest)}</td>
    </tr>
  );
}
