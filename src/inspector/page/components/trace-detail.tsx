/** One record in full, and where it leads. */
import { formatSeconds } from '../format.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { jumpsOf, traceRow } from '../store/trace-row.ts';

interface Props {
  readonly store: InspectorStore;
  readonly number: number;
  readonly onClose: () => void;
}

export function TraceDetail({ store, number, onClose }: Props) {
  // It may be gone by the next look.
  void store.calmVersion.value;
  const row = traceRow(store.records, number);
  if (row === undefined) {
    return (
      <aside class="detail trace-detail" data-testid="trace-detail">
        <p class="faint">This record is not kept any more: only the newest ones are.</p>
        <button type="button" onClick={onClose}>
          Close
        </button>
      </aside>
    );
  }
  const kind = store.records.decoder.kindNamed(row.kind);
  const jumps = jumpsOf(row, {
    domainOf: requesterId => store.touches.domainOf(requesterId),
    functionOf: requesterId => store.functionOf(requesterId),
    hasHardware: !store.isRecording,
  });
  return (
    <aside class="detail trace-detail" data-testid="trace-detail">
      <div class="bar">
        <h2 class="mono">{row.kind}</h2>
        <span class="spring" />
        <button type="button" aria-label="Close" onClick={onClose}>
          ×
        </button>
      </div>
      <p class="faint">{kind?.about}</p>
      <dl class="facts mono">
        <dt>record</dt>
        <dd>{row.number}</dd>
        <dt>time</dt>
        <dd>{formatSeconds(row.time)} s</dd>
        <dt>source</dt>
        <dd>{row.source}</dd>
        {row.fields.map(({ name, text }) => (
          <>
            <dt>{name}</dt>
            <dd>{text}</dd>
          </>
        ))}
      </dl>
      {row.text !== '' && <pre>{row.text}</pre>}
      <div class="links" data-testid="jumps">
        {jumps.map(({ label, href }) => (
          <a key={href} href={href}>
            {label}
          </a>
        ))}
      </div>
    </aside>
  );
}
