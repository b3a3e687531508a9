/** Guest memory, the IOMMU with its domains, the devices, and what flows between them. */
import { formatBytes, formatPercent, formatQuantity, formatRequesterId } from '../format.ts';
import { formatRoute } from '../route.ts';
import type { Overview, OverviewDevice, OverviewDomain } from '../store/overview.ts';

const WIDTH = 1180;
const ROW = 74;
const MEMORY = { x: 10, width: 170 };
const UNIT = { x: 380, width: 380 };
const DEVICE = { x: 960, width: 210 };
/** Domains beyond these are only counted: the picture stays readable. */
const DOMAINS_SHOWN = 12;
const DEVICES_SHOWN = 16;
const HEAD = 104;
/** Pixels at the right of the domains, for the lines that lead to them. */
const LANES = 40;

export function WayOfTheData({ overview }: { readonly overview: Overview }) {
  const devices = overview.devices.slice(0, DEVICES_SHOWN);
  const domains = overview.domains.slice(0, DOMAINS_SHOWN);
  const height = Math.max(HEAD + Math.max(domains.length, 1) * 48 + 16, devices.length * ROW + 16, 190);
  const deviceY = (index: number) => 8 + index * ROW + (height - 16 - devices.length * ROW) / 2;
  const domainY = (index: number) => HEAD + index * 48;
  const { bytesRead, bytesWritten } = overview.rates;
  return (
    <svg class="picture" viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label="The way of the data">
      <rect class="box" x={MEMORY.x} y={8} width={MEMORY.width} height={height - 16} rx={5} />
      <text class="title" x={MEMORY.x + 14} y={32}>
        Guest memory
      </text>
      {overview.memory.regions > 0 && (
        <text class="small" x={MEMORY.x + 14} y={52}>
          {overview.memory.regions} regions
        </text>
      )}
      {overview.memory.bytes > 0 && (
        <text class="small" x={MEMORY.x + 14} y={70}>
          {formatBytes(overview.memory.bytes)} mapped here
        </text>
      )}
      <Flow
        x1={MEMORY.x + MEMORY.width}
        x2={UNIT.x}
        y={height / 2}
        read={bytesRead ?? Number.NaN}
        written={bytesWritten ?? Number.NaN}
        isOff={!overview.devices.some(one => one.connected)}
      />
      <Unit overview={overview} height={height} />
      {domains.map((domain, index) => (
        <Domain key={domain.domain} domain={domain} y={domainY(index)} />
      ))}
      {overview.domains.length > domains.length && (
        <text class="small" x={UNIT.x + 16} y={height - 14}>
          and {overview.domains.length - domains.length} more domains
        </text>
      )}
      {devices.map((device, index) => {
        const at = domains.findIndex(one => one.domain === device.domain);
        return (
          <g key={device.requesterId} data-testid={`device-${device.name}`}>
            <Edge
              device={device}
              y={deviceY(index) + ROW / 2 - 6}
              to={at < 0 ? undefined : domainY(at) + 19}
              lane={UNIT.x + UNIT.width - 6 - (at % 6) * 4}
            />
            <Device device={device} y={deviceY(index)} isRecording={overview.isRecording} />
          </g>
        );
      })}
    </svg>
  );
}

function Unit({ overview, height }: { readonly overview: Overview; readonly height: number }) {
  const { hitRate, walks, invalidations, faults } = overview.rates;
  const barWidth = 150;
  return (
    <g data-testid="iommu-box">
      <rect class="box" x={UNIT.x} y={8} width={UNIT.width} height={height - 16} rx={5} />
      <text class="title" x={UNIT.x + 16} y={32}>
        IOMMU {overview.iommu}
      </text>
      <text class="small" x={UNIT.x + UNIT.width - 16} y={32} text-anchor="end">
        {overview.isRecording ? 'recorded' : overview.iommuConnected ? '● connected' : '○ no client'}
      </text>
      <text class="small" x={UNIT.x + 16} y={58}>
        TLB hits
      </text>
      <rect class="meter" x={UNIT.x + 76} y={49} width={barWidth} height={10} rx={2} />
      <rect class="full" x={UNIT.x + 76} y={49} width={barWidth * (hitRate ?? 0)} height={10} rx={2} />
      <text class="number" x={UNIT.x + 236} y={58} data-testid="hit-rate">
        {hitRate === null ? '–' : formatPercent(hitRate)}
      </text>
      <text class="number" x={UNIT.x + 16} y={84}>
        {perSecond(walks)} walks/s · {perSecond(invalidations)} inval/s ·{' '}
        <tspan class={(faults ?? 0) > 0 ? 'alarm' : ''}>
          {(faults ?? 0) > 0 ? '▲ ' : ''}
          {perSecond(faults)} faults/s
        </tspan>
      </text>
      {overview.domains.length === 0 && (
        <text class="small" x={UNIT.x + 16} y={HEAD + 22}>
          {overview.isRecording ? 'no domain at the end' : 'no domain yet'}
        </text>
      )}
    </g>
  );
}

function Domain({ domain, y }: { readonly domain: OverviewDomain; readonly y: number }) {
  return (
    <a href={formatRoute('space', { domain: String(domain.domain) })} data-testid={`domain-${domain.domain}`}>
      <rect class="inner" x={UNIT.x + 12} y={y} width={UNIT.width - 12 - LANES} height={38} rx={4} />
      <text class="title" x={UNIT.x + 24} y={y + 24}>
        domain {domain.domain}
      </text>
      <text class="number" x={UNIT.x + UNIT.width - LANES - 12} y={y + 24} text-anchor="end">
        {domain.mappings} {domain.mappings === 1 ? 'mapping' : 'mappings'} · {formatBytes(domain.bytes)}
      </text>
    </a>
  );
}

interface DeviceProps {
  readonly device: OverviewDevice;
  readonly y: number;
  readonly isRecording: boolean;
}

function Device({ device, y, isRecording }: DeviceProps) {
  const { name, requesterId, connected, busMaster, domain, how } = device;
  const state = [connected ? '● connected' : '○ no client', ...(busMaster ? [] : ['no bus master'])];
  const words = isRecording ? ['recorded'] : state;
  const nothing = isRecording ? 'attached to nothing at the end' : 'attached to nothing';
  const attached = domain === undefined ? nothing : `domain ${domain}${how === '' ? '' : `, ${how}`}`;
  return (
    <g>
      <rect class="box" x={DEVICE.x} y={y} width={DEVICE.width} height={ROW - 12} rx={5} />
      <text class="title" x={DEVICE.x + 12} y={y + 20}>
        {name}
      </text>
      <text class="number" x={DEVICE.x + DEVICE.width - 12} y={y + 20} text-anchor="end">
        {formatRequesterId(requesterId)}
      </text>
      <text class="small" x={DEVICE.x + 12} y={y + 37}>
        {words.join(', ')}
      </text>
      <text class="small" x={DEVICE.x + 12} y={y + 53}>
        {attached}
      </text>
    </g>
  );
}

interface EdgeProps {
  readonly device: OverviewDevice;
  readonly y: number;
  /** Where its domain is; undefined: it has none. */
  readonly to: number | undefined;
  /** Where the line to the domain goes up or down. */
  readonly lane: number;
}

function Edge({ device, y, to, lane }: EdgeProps) {
  const { rates, connected } = device;
  return (
    <g>
      <Flow
        x1={UNIT.x + UNIT.width}
        x2={DEVICE.x}
        y={y}
        read={rates?.bytesRead ?? Number.NaN}
        written={rates?.bytesWritten ?? Number.NaN}
        isOff={!connected}
      />
      {to !== undefined && (
        <>
          <path class="link" d={`M ${UNIT.x + UNIT.width} ${y} H ${lane} V ${to} H ${UNIT.x + UNIT.width - LANES}`} />
          <circle class="full" cx={UNIT.x + UNIT.width - LANES} cy={to} r={3} />
        </>
      )}
    </g>
  );
}

interface FlowProps {
  readonly x1: number;
  readonly x2: number;
  readonly y: number;
  /** Bytes a second: from memory to devices, and back. */
  readonly read: number;
  readonly written: number;
  readonly isOff: boolean;
}

/** Two lines: what devices read goes to the right, what they write to the left. */
function Flow({ x1, x2, y, read, written, isOff }: FlowProps) {
  const middle = (x1 + x2) / 2;
  const edge = (rate: number) => ({ class: isOff ? 'edge off' : 'edge', 'stroke-width': thickness(rate) });
  return (
    <g>
      <path {...edge(read)} d={`M ${x1 + 4} ${y - 7} H ${x2 - 12} m -5 -4 l 7 4 l -7 4`} />
      <path {...edge(written)} d={`M ${x2 - 4} ${y + 7} H ${x1 + 12} m 5 -4 l -7 4 l 7 4`} />
      <text class="number" x={middle} y={y - 15} text-anchor="middle">
        {bytesPerSecond(read)} read
      </text>
      <text class="number" x={middle} y={y + 25} text-anchor="middle">
        {bytesPerSecond(written)} written
      </text>
    </g>
  );
}

/** By the order of magnitude; the number stands beside it. */
function thickness(rate: number): number {
  return rate > 0 ? Math.min(1 + Math.log10(1 + rate / 1024) * 0.7, 5) : 1;
}

function bytesPerSecond(rate: number): string {
  return Number.isFinite(rate) ? `${formatBytes(rate)}/s` : '–';
}

function perSecond(rate: number | null): string {
  return rate === null ? '–' : formatQuantity(rate);
}
