/** The invalidation queue, with what is done, what is pending, and where head and tail are. */
import { formatBytes, hex, hexGroups } from '../format.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { readQueue } from '../wire.ts';
import { useAnswer } from './use-answer.ts';

const STATE_MARKS = { done: '● done', pending: '▶ pending', free: '○ free' } as const;

interface Props {
  readonly store: InspectorStore;
  readonly automatic: boolean;
}

export function QueuePanel({ store, automatic }: Props) {
  const { value: queue, error } = useAnswer(store, 'queue', {}, readQueue, automatic);
  return (
    <div class="scroll">
      {error !== '' && <div class="banner problem">{error}</div>}
      {queue !== undefined && (
        <>
          <div class="tools" data-testid="queue-state">
            <span>
              {queue.enabled ? '● enabled' : '○ not enabled'}; <span class="mono">{formatBytes(queue.bytes)}</span> at{' '}
              <span class="mono">{hex(queue.base)}</span>; head <span class="mono">{hex(queue.head)}</span>, tail{' '}
              <span class="mono">{hex(queue.tail)}</span>
            </span>
          </div>
          <table data-testid="queue-table">
            <thead>
              <tr>
                <th class="right">offset</th>
                <th>state</th>
                <th>words</th>
                <th class="wide">what</th>
              </tr>
            </thead>
            <tbody>
              {queue.entries.map(({ offset, words, text, state }) => (
                <tr key={offset} class={state === 'pending' ? 'selected' : ''}>
                  <td class="mono right">
                    {offset === queue.head && 'head → '}
                    {offset === queue.tail && 'tail → '}
                    {hex(offset, 3)}
                  </td>
                  <td>{STATE_MARKS[state] ?? state}</td>
                  <td class="mono">{words.map(word => hexGroups(word, 8)).join('  ')}</td>
                  <td class="wrap">{text}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </>
      )}
    </div>
  );
}
