/** The mistakes that the sanitizer found, each with its history. */
import { useState } from 'preact/hooks';
import type { Finding } from '../../../trace/sanitizer/finding.ts';
import type { ViewProps } from '../app.tsx';
import { FindingDetail } from '../components/finding-detail.tsx';
import { SeverityMark } from '../components/marks.tsx';
import { Unavailable } from '../components/unavailable.tsx';
import { formatCount } from '../format.ts';
import { replaceArgs } from '../navigate.ts';

const SEVERITIES: readonly Finding['severity'][] = ['stop', 'warning', 'note'];

export function FindingsView({ store, args }: ViewProps) {
  const [hidden, setHidden] = useState<readonly Finding['severity'][]>([]);
  const reason = store.unavailable.value.findings;
  if (reason !== undefined) return <Unavailable title="There are no findings to show." reason={reason} />;
  const all = store.findings.value;
  const lost = store.findingsLost.value;
  const shown = all.filter(one => !hidden.includes(one.severity));
  const chosen = shown.find(one => one.id === args.id) ?? shown[0];
  const pick = (id: string) => replaceArgs(store, 'findings', { id });
  return (
    <div class="view" data-testid="findings">
      <div class="tools">
        <strong data-testid="findings-count">
          {all.length} {all.length === 1 ? 'finding' : 'findings'}
        </strong>
        {lost > 0 && <span class="problem">{formatCount(lost)} more were not kept</span>}
        <span class="spring" />
        {SEVERITIES.map(severity => (
          <button
            key={severity}
            type="button"
            aria-pressed={!hidden.includes(severity)}
            data-testid={`severity-${severity}`}
            onClick={() =>
              setHidden(hidden.includes(severity) ? hidden.filter(one => one !== severity) : [...hidden, severity])
            }
          >
            {severity} {all.filter(one => one.severity === severity).length}
          </button>
        ))}
      </div>
      {shown.length === 0 ? (
        <p class="notice">
          {all.length === 0
            ? 'Nothing was found so far. The sanitizer looks at every mapping, invalidation and fault while the machine runs.'
            : 'Those that there are are hidden.'}
        </p>
      ) : (
        <div class="split">
          <div
            class="side findings-list"
            role="listbox"
            aria-label="Findings"
            tabIndex={0}
            onKeyDown={event => {
              const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
              const next = chosen === undefined ? undefined : shown[shown.indexOf(chosen) + step];
              if (step === 0 || next === undefined) return;
              event.preventDefault();
              pick(next.id);
            }}
          >
            <table>
              <thead>
                <tr>
                  <th>id</th>
                  <th>severity</th>
                  <th class="wide">what</th>
                  <th>device</th>
                  <th class="right">count</th>
                  <th class="right">last, s</th>
                </tr>
              </thead>
              <tbody>
                {shown.map(finding => (
                  <tr
                    key={finding.id}
                    class={`pick ${finding === chosen ? 'selected' : ''}`}
                    data-testid={`finding-${finding.id}`}
                    onClick={() => pick(finding.id)}
                  >
                    <td class="mono">{finding.id}</td>
                    <td>
                      <SeverityMark severity={finding.severity} />
                    </td>
                    <td class="summary">
                      {finding.summary}
                      <br />
                      <span class="mono faint">{finding.detector}</span>
                    </td>
                    <td class="mono">{finding.device}</td>
                    <td class="mono right">{formatCount(finding.count)}</td>
                    <td class="mono right">{(finding.last / 1e9).toFixed(3)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {chosen !== undefined && <FindingDetail key={chosen.id} store={store} finding={chosen} />}
        </div>
      )}
    </div>
  );
}
