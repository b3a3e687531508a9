/** The mappings in the picture, as a table. */
import { firstMapping, type SpaceModel } from '../address-space/space-model.ts';
import { formatBytes, formatCount, formatPermissions, formatSeconds, pageAddress, pageEnd } from '../format.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import type { Mapping } from '../wire.ts';

/** More rows are not looked at one by one: zoom in. */
const ROWS = 200;

interface Props {
  readonly store: InspectorStore;
  readonly model: SpaceModel;
  /** Pages. */
  readonly from: number;
  readonly to: number;
  readonly chosen: number | undefined;
  readonly onPick: (mapping: Mapping) => void;
}

export function SpaceTable({ store, model, from, to, chosen, onPick }: Props) {
  const { mappings, domain } = model;
  const first = firstMapping(mappings, Math.floor(from));
  let end = first;
  while (end < mappings.length && mappings[end]!.page < to) end++;
  const shown = mappings.slice(first, Math.min(end, first + ROWS));
  const touched = store.touches.domain(domain);
  const touchedOf = ({ page, pages }: Mapping) => {
    let reads = 0;
    let writes = 0;
    touched?.within(page, page + pages - 1, (_page, read, written) => {
      reads += read;
      writes += written;
    });
    return { reads, writes };
  };
  return (
    <div class="scroll">
      <table data-testid="space-table">
        <thead>
          <tr>
            <th>from</th>
            <th>to</th>
            <th class="right">size</th>
            <th>allows</th>
            <th>leads to</th>
            <th class="right">reads seen</th>
            <th class="right">writes seen</th>
            <th class="right">mapped at, s</th>
            {store.isRecording && <th class="right">until, s</th>}
          </tr>
        </thead>
        <tbody>
          {shown.map(mapping => {
            const { page, pages, frame, permissions, since, until } = mapping;
            const { reads, writes } = touchedOf(mapping);
            const isChosen = chosen !== undefined && chosen >= page && chosen < page + pages;
            return (
              <tr key={page} class={`pick ${isChosen ? 'selected' : ''}`} onClick={() => onPick(mapping)}>
                <td class="mono">{pageAddress(page)}</td>
                <td class="mono">{pageEnd(page + pages - 1)}</td>
                <td class="mono right">{formatBytes(pages * 4096)}</td>
                <td class="mono">{formatPermissions(permissions)}</td>
                <td class="mono">{frame < 0 ? 'scattered' : pageAddress(frame)}</td>
                <td class="mono right">{formatCount(reads)}</td>
                <td class="mono right">{formatCount(writes)}</td>
                <td class="mono right">{formatSeconds(since)}</td>
                {store.isRecording && (
                  <td class="mono right">{until === undefined ? 'the end' : formatSeconds(until)}</td>
                )}
              </tr>
            );
          })}
        </tbody>
      </table>
      {end - first > shown.length && (
        <p class="notice">
          {formatCount(end - first - shown.length)} more mappings are in the picture: zoom in to see them here.
        </p>
      )}
    </div>
  );
}
