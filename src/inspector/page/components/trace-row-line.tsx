import { formatSeconds } from '../format.ts';
import type { TraceRow } from '../store/trace-row.ts';
import { CLASS_MARKS } from './marks.tsx';

/** Values that go without saying. */
const QUIET: ReadonlySet<string> = new Set(['pasid=none', 'status=ok', 'region=0', 'shift=12']);
/** What is looked for first stands first. */
const FIRST: readonly string[] = ['requesterId', 'domain', 'iova', 'frame', 'length', 'pages'];

interface Props {
  readonly row: TraceRow;
  readonly selected: boolean;
  readonly onPick: () => void;
}

export function TraceRowLine({ row, selected, onPick }: Props) {
  const { sign, tone } = CLASS_MARKS[row.class] ?? CLASS_MARKS.note;
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the list itself has the keys.
    // biome-ignore lint/a11y/useFocusableInteractive: the list itself has the focus.
    <div
      class={`row ${selected ? 'selected' : ''} ${row.isGap ? 'gap' : ''}`}
      role="option"
      aria-selected={selected}
      data-number={row.number}
      data-kind={row.kind}
      onClick={onPick}
    >
      <span class="time">{formatSeconds(row.time)}</span>
      <span>{row.source}</span>
      <span>
        <span class={`tone-${tone}`}>{sign}</span> {row.kind}
      </span>
      <span>
        {row.text}
        {inOrder(row.fields).map(({ name, text }) =>
          QUIET.has(`${name}=${text}`) ? null : (
            <i key={name}>
              <b>{name}=</b>
              {text}
            </i>
          ),
        )}
      </span>
    </div>
  );
}

function inOrder(fields: TraceRow['fields']): TraceRow['fields'] {
  const rank = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length);
  return [...fields].sort((one, other) => rank(one.name) - rank(other.name));
}
