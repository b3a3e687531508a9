/** Registers of every block, field by field, and of the IOMMU also its TLB and its queue. */
import { useState } from 'preact/hooks';
import type { InspectionAnswer } from '../../../machine/inspection.ts';
import type { ViewProps } from '../app.tsx';
import { AgainEverySecond } from '../components/again-every-second.tsx';
import { QueuePanel } from '../components/queue-panel.tsx';
import { RegisterTable } from '../components/register-table.tsx';
import { TlbPanel } from '../components/tlb-panel.tsx';
import { Unavailable, unavailableIn } from '../components/unavailable.tsx';
import { useAnswer } from '../components/use-answer.ts';
import { formatRequesterId } from '../format.ts';
import { formatRoute } from '../route.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { readRegisters } from '../wire.ts';

const SHOWS = ['registers', 'tlb', 'queue'] as const;
type Show = (typeof SHOWS)[number];
const SHOW_TITLES: Readonly<Record<Show, string>> = { registers: 'Registers', tlb: 'TLB', queue: 'Invalidation queue' };

export function RegistersView({ store, args }: ViewProps) {
  const [automatic, setAutomatic] = useState(true);
  const reason = unavailableIn(store, 'registers') ?? store.unavailable.value.inspect;
  const inspection = store.inspection.value;
  if (reason !== undefined) return <Unavailable title="There are no registers to look at." reason={reason} />;
  if (inspection === undefined) return <p class="notice">The machine is being asked…</p>;
  const name = args.function ?? inspection.functions[0]?.name;
  const isIommu = inspection.functions.find(one => one.name === name)?.requesterId === undefined;
  const show = isIommu ? (SHOWS.find(one => one === args.show) ?? 'registers') : 'registers';
  return (
    <div class="split view-registers" data-testid="registers">
      <Functions inspection={inspection} chosen={name} />
      <div class="view">
        <div class="tools">
          {isIommu && (
            <div class="chips">
              {SHOWS.map(one => (
                <button
                  key={one}
                  type="button"
                  aria-pressed={one === show}
                  data-testid={`show-${one}`}
                  onClick={() => {
                    location.hash = formatRoute('registers', { function: name, show: one });
                  }}
                >
                  {SHOW_TITLES[one]}
                </button>
              ))}
            </div>
          )}
          <span class="spring" />
          <AgainEverySecond automatic={automatic} onChange={setAutomatic} />
        </div>
        {show === 'registers' && name !== undefined && (
          <Blocks key={name} store={store} inspection={inspection} name={name} automatic={automatic} args={args} />
        )}
        {show === 'tlb' && <TlbPanel store={store} automatic={automatic} />}
        {show === 'queue' && <QueuePanel store={store} automatic={automatic} />}
      </div>
    </div>
  );
}

interface FunctionsProps {
  readonly inspection: InspectionAnswer;
  readonly chosen: string | undefined;
}

function Functions({ inspection, chosen }: FunctionsProps) {
  return (
    <nav class="side register-list" aria-label="Functions">
      {inspection.functions.map(({ name, kind, requesterId, connected }) => (
        <a
          key={name}
          href={formatRoute('registers', { function: name })}
          aria-current={name === chosen ? 'page' : undefined}
          data-testid={`registers-of-${name}`}
        >
          <span class="mono">{name}</span>
          <br />
          <span class="faint">
            {connected ? '●' : '○'} {kind}
            {requesterId !== undefined && `, ${formatRequesterId(requesterId)}`}
          </span>
        </a>
      ))}
    </nav>
  );
}

interface BlocksProps {
  readonly store: InspectorStore;
  readonly inspection: InspectionAnswer;
  readonly name: string;
  readonly automatic: boolean;
  readonly args: Readonly<Record<string, string>>;
}

function Blocks({ store, inspection, name, automatic, args }: BlocksProps) {
  const { value, before, error, again } = useAnswer(store, 'registers', { function: name }, readRegisters, automatic);
  const blocks = inspection.registers.filter(one => one.function === name);
  const bytesOf = (list: typeof value, block: string) => list?.find(one => one.block === block)?.bytes;
  return (
    <div class="scroll">
      {error !== '' && <div class="banner problem">{error}</div>}
      {blocks.map(block => {
        const bytes = bytesOf(value, block.block);
        return (
          bytes !== undefined && (
            <RegisterTable
              key={block.block}
              block={block}
              bytes={bytes}
              before={bytesOf(before, block.block)}
              marked={
                args.offset === undefined || String(block.region) !== (args.region ?? '0')
                  ? undefined
                  : Number(args.offset)
              }
              onRefresh={again}
            />
          )
        );
      })}
      {blocks.length === 0 && <p class="notice">This function has no registers that are known by name.</p>}
    </div>
  );
}
