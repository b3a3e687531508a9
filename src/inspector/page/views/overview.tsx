/** The way of the data as a picture, and below it the functions and what was found. */

import type { ViewProps } from '../app.tsx';
import { SeverityMark } from '../components/marks.tsx';
import { Panel } from '../components/panel.tsx';
import { Unavailable } from '../components/unavailable.tsx';
import { WayOfTheData } from '../components/way-of-the-data.tsx';
import { formatCount, formatQuantity, formatRequesterId } from '../format.ts';
import { formatRoute } from '../route.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { overviewOf } from '../store/overview.ts';

export function OverviewView({ store }: ViewProps) {
  const overview = overviewOf(store);
  const reason = store.unavailable.value.mappings;
  return (
    <div class="view overview" data-testid="overview">
      <Panel title="The way of the data" testId="way-of-the-data">
        <WayOfTheData overview={overview} />
      </Panel>
      <div class="columns">
        <Panel title="Functions" bare testId="functions">
          <Functions store={store} />
        </Panel>
        <Findings store={store} />
      </div>
      {reason !== undefined && <Unavailable title="Domains and mappings are not known." reason={reason} />}
    </div>
  );
}

function Functions({ store }: { readonly store: InspectorStore }) {
  const { devices } = overviewOf(store);
  const isCounted = !store.isRecording;
  const counters = store.devices.value;
  const rates = store.deviceRates.value;
  return (
    <table>
      <thead>
        <tr>
          <th>function</th>
          <th>kind</th>
          <th>requester</th>
          <th>state</th>
          <th>domain</th>
          <th class="right">reads</th>
          <th class="right">writes</th>
          <th class="right">failed</th>
          <th class="right">registers/s</th>
        </tr>
      </thead>
      <tbody>
        {(store.inspection.value?.functions ?? []).map(({ name, kind, requesterId, connected, busMaster }) => {
          const device = devices.find(one => one.requesterId === requesterId && requesterId !== undefined);
          const counted = counters[name];
          return (
            <tr key={name} data-testid={`function-${name}`}>
              <td class="mono">
                <a
                  href={
                    store.isRecording
                      ? formatRoute('trace', { device: name, class: 'all' })
                      : formatRoute('registers', { function: name })
                  }
                >
                  {name}
                </a>
              </td>
              <td>{kind}</td>
              <td class="mono">{requesterId === undefined ? '–' : formatRequesterId(requesterId)}</td>
              <td>
                {store.isRecording ? 'recorded' : connected ? '● connected' : '○ no client'}
                {!store.isRecording && !busMaster && ', no bus master'}
              </td>
              <td class="mono">
                {device?.domain === undefined ? (
                  '–'
                ) : (
                  <a href={formatRoute('space', { domain: String(device.domain) })}>{device.domain}</a>
                )}
              </td>
              <td class="mono right">
                {requesterId === undefined || !isCounted ? '–' : formatCount(counted?.reads ?? 0)}
              </td>
              <td class="mono right">
                {requesterId === undefined || !isCounted ? '–' : formatCount(counted?.writes ?? 0)}
              </td>
              <td class={`mono right ${(counted?.failed ?? 0) > 0 ? 'tone-vermillion' : ''}`}>
                {requesterId === undefined || !isCounted
                  ? '–'
                  : `${(counted?.failed ?? 0) > 0 ? '▲ ' : ''}${formatCount(counted?.failed ?? 0)}`}
              </td>
              <td class="mono right">{formatQuantity(rates[name]?.registers ?? Number.NaN)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
}

const FINDINGS_SHOWN = 6;

function Findings({ store }: { readonly store: InspectorStore }) {
  const findings = store.findings.value;
  return (
    <Panel
      title="Findings"
      bare
      testId="overview-findings"
      tools={findings.length > 0 && <a href={formatRoute('findings')}>all {findings.length}</a>}
    >
      {findings.length === 0 ? (
        <p class="notice">Nothing was found so far.</p>
      ) : (
        <table>
          <tbody>
            {findings.slice(0, FINDINGS_SHOWN).map(({ id, severity, summary, count }) => (
              <tr key={id}>
                <td>
                  <SeverityMark severity={severity} />
                </td>
                <td class="wrap wide">
                  <a href={formatRoute('findings', { id })}>{summary}</a>
                </td>
                <td class="mono right">{count}×</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </Panel>
  );
}
