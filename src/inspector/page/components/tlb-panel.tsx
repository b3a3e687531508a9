/** What the IOTLB holds. */
import { formatBytes, formatPermissions, hex } from '../format.ts';
import { formatRoute } from '../route.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { readTlb } from '../wire.ts';
import { useAnswer } from './use-answer.ts';

/** Entries asked for: as many as a unit usually has, and as many rows as a browser likes. */
const LIMIT = 2048;
/** Bit of an entry that remembers that nothing is there. */
const NOT_PRESENT = 4;

interface Props {
  readonly store: InspectorStore;
  readonly automatic: boolean;
}

export function TlbPanel({ store, automatic }: Props) {
  const { value, error } = useAnswer(store, 'tlb', { limit: LIMIT }, readTlb, automatic);
  const entries = [...(value?.entries ?? [])].sort(
    (one, other) => one.domain - other.domain || (one.iova < other.iova ? -1 : 1),
  );
  return (
    <div class="scroll">
      {error !== '' && <div class="banner problem">{error}</div>}
      {value !== undefined && entries.length === 0 && <p class="notice">The TLB is empty.</p>}
      {entries.length > 0 && (
        <table data-testid="tlb-table">
          <thead>
            <tr>
              <th class="right">domain</th>
              <th class="right">IOVA</th>
              <th class="right">leads to</th>
              <th class="right">page</th>
              <th class="wide">allows</th>
            </tr>
          </thead>
          <tbody>
            {entries.map(({ domain, iova, address, shift, permissions }) => (
              <tr key={`${domain} ${iova} ${shift}`}>
                <td class="mono right">{domain}</td>
                <td class="mono right">
                  <a href={formatRoute('space', { domain: String(domain), iova: hex(iova) })}>{hex(iova)}</a>
                </td>
                <td class="mono right">{(permissions & NOT_PRESENT) === 0 ? hex(address) : '–'}</td>
                <td class="mono right">{formatBytes(2 ** shift)}</td>
                <td class="mono">
                  {(permissions & NOT_PRESENT) === 0
                    ? formatPermissions(permissions)
                    : '○ remembered: nothing was there'}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <p class="status" data-testid="tlb-count">
        {entries.length} entries{value !== undefined && value.total > entries.length && ` of ${value.total}`}
      </p>
    </div>
  );
}
