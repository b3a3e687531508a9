/** All about one page. */
import { frameOf, mappingAt, type SpaceModel } from '../address-space/space-model.ts';
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatRequesterId,
  formatSeconds,
  pageAddress,
  permissionWords,
} from '../format.ts';
import { formatRoute } from '../route.ts';
import type { InspectorStore } from '../store/inspector-store.ts';

interface Props {
  readonly store: InspectorStore;
  readonly model: SpaceModel;
  readonly page: number | undefined;
}

export function SpaceDetail({ store, model, page }: Props) {
  return (
    <aside class="detail space-detail" data-testid="space-detail">
      {page === undefined ? (
        <p class="faint">
          Point at a page, or click it to keep it. The wheel zooms, dragging moves, a double click shows a whole
          mapping.
        </p>
      ) : (
        <Page store={store} model={model} page={page} />
      )}
    </aside>
  );
}

function Page({ store, model, page }: Props & { readonly page: number }) {
  void store.calmVersion.value;
  const { domain, mappings } = model;
  const mapping = mappingAt(mappings, page);
  const touch = store.touches.touch(domain, page);
  const address = pageAddress(page);
  const device = store.mappings.value.attachments.find(one => one.domain === domain)?.requesterId;
  const frame = mapping === undefined ? -1 : frameOf(mapping, page);
  return (
    <>
      <h2 class="mono" data-testid="page-address">
        {address}
      </h2>
      <section>
        {mapping === undefined ? (
          <p>nothing is mapped here</p>
        ) : (
          <dl class="facts">
            <dt>leads to</dt>
            <dd class="mono">{frame < 0 ? 'not known (scattered pages)' : pageAddress(frame)}</dd>
            <dt>allows</dt>
            <dd>{permissionWords(mapping.permissions)}</dd>
            <dt>mapping</dt>
            <dd class="mono">
              {pageAddress(mapping.page)} + {formatBytes(mapping.pages * 4096)}
            </dd>
            <dt>since</dt>
            <dd class="mono">{formatSeconds(mapping.since)} s</dd>
            {mapping.until !== undefined && (
              <>
                <dt>until</dt>
                <dd class="mono">{formatSeconds(mapping.until)} s</dd>
              </>
            )}
          </dl>
        )}
      </section>
      <section>
        {touch === undefined ? (
          <p class="faint">no transfer was seen here</p>
        ) : (
          <dl class="facts">
            <dt>read</dt>
            <dd class="mono">{formatCount(touch.reads)} ×</dd>
            <dt>written</dt>
            <dd class="mono">{formatCount(touch.writes)} ×</dd>
            <dt>refused</dt>
            <dd class={`mono ${touch.failures > 0 ? 'problem' : ''}`}>{formatCount(touch.failures)} ×</dd>
            <dt>last</dt>
            <dd class="mono">
              {formatSeconds(touch.last)} s ({formatDuration(Math.max(store.records.lastTime - touch.last, 0))} ago)
            </dd>
            <dt>by</dt>
            <dd>{touch.requesterIds.map(id => store.nameOf(id)).join(', ')}</dd>
          </dl>
        )}
      </section>
      <div class="links">
        {device !== undefined && !store.isRecording && (
          <a href={formatRoute('tables', { device: formatRequesterId(device), iova: address })}>page tables</a>
        )}
        <a href={formatRoute('trace', { iova: `${address}+0x1000`, domain: '', class: 'all' })}>trace of this page</a>
      </div>
    </>
  );
}
