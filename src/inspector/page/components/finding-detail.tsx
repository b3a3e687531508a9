/** One finding: why it is one, what led there, and what to do. */
import { DETECTORS } from '../../../trace/sanitizer/detectors.ts';
import type { Finding } from '../../../trace/sanitizer/finding.ts';
import { formatCount, formatDuration, formatRequesterId, formatSeconds, hex } from '../format.ts';
import { formatRoute } from '../route.ts';
import { findingLinks, recordsAround } from '../store/finding-links.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { SeverityMark } from './marks.tsx';
import { TraceRowLine } from './trace-row-line.tsx';

interface Props {
  readonly store: InspectorStore;
  readonly finding: Finding;
}

export function FindingDetail({ store, finding }: Props) {
  const { id, detector, severity, summary, explanation, suggestion, device, iova, length, domain, first, last, count } =
    finding;
  const requesterId = store.deviceNames().get(device);
  return (
    <article class="finding-detail" data-testid="finding-detail">
      <h1>{summary}</h1>
      <SeverityMark severity={severity} /> <span class="mono faint">{detector}</span>
      <p>{DETECTORS[detector]?.title}</p>
      <div class="links" data-testid="finding-links">
        {findingLinks(finding, requesterId, !store.isRecording).map(({ label, href }) => (
          <a key={href} href={href}>
            {label}
          </a>
        ))}
      </div>
      <section>
        <dl class="facts">
          <dt>finding</dt>
          <dd class="mono">{id}</dd>
          <dt>device</dt>
          <dd class="mono">
            {device}
            {requesterId !== undefined && ` (${formatRequesterId(requesterId)})`}
          </dd>
          {iova !== undefined && (
            <>
              <dt>address</dt>
              <dd class="mono">
                {hex(iova)}
                {length !== undefined && ` + ${length} bytes`}
              </dd>
            </>
          )}
          {domain !== undefined && (
            <>
              <dt>domain</dt>
              <dd class="mono">{domain}</dd>
            </>
          )}
          <dt>seen</dt>
          <dd class="mono">
            {count === 1
              ? `once, at ${formatSeconds(first)} s`
              : `${formatCount(count)} times, ${formatSeconds(first)} s to ${formatSeconds(last)} s`}
          </dd>
        </dl>
      </section>
      <section>
        <h2>Why this is a mistake</h2>
        <p>{explanation}</p>
      </section>
      <section>
        <h2>What to look for</h2>
        <p>{suggestion}</p>
      </section>
      <section>
        <h2>What led there</h2>
        <Evidence finding={finding} />
      </section>
      <section>
        <h2>Records around it</h2>
        <Around store={store} finding={finding} />
      </section>
    </article>
  );
}

/** Times are told from the last piece of evidence: that is the access itself. */
function Evidence({ finding }: { readonly finding: Finding }) {
  const { evidence } = finding;
  const end = evidence.at(-1)?.time ?? 0;
  return (
    <ol class="timeline" data-testid="evidence">
      {evidence.map(({ time, kind, source, text }, index) => {
        const isLast = index === evidence.length - 1;
        return (
          // Evidence does not change.
          <li key={index} class={isLast ? 'last' : ''} title={`${formatSeconds(time)} s`}>
            <span class="mono right faint">
              {isLast ? formatSeconds(time).slice(0, -3) : `−${formatDuration(end - time)}`}
            </span>
            <span class="mark">{isLast ? '▲' : '●'}</span>
            <span class="mono">
              {kind}
              <br />
              <span class="faint">{source}</span>
            </span>
            <span>{text}</span>
          </li>
        );
      })}
    </ol>
  );
}

function Around({ store, finding }: Props) {
  void store.calmVersion.value;
  const rows = recordsAround(store.records, finding.last);
  if (rows.length === 0) {
    return (
      <p class="faint">
        No records of that time are kept. They are kept while the <a href={formatRoute('trace')}>trace</a> is shown.
      </p>
    );
  }
  return (
    <div data-testid="around">
      {rows.map(row => (
        <TraceRowLine
          key={row.number}
          row={row}
          selected={row.time === finding.last}
          onPick={() => {
            location.hash = formatRoute('trace', { at: String(row.time), class: 'all' });
          }}
        />
      ))}
    </div>
  );
}
