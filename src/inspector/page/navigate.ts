/** Changes what the page's address says, without a new entry in the browser's history: for what is typed and dragged. */
import { formatRoute, parseRoute, type ViewName } from './route.ts';
import type { InspectorStore } from './store/inspector-store.ts';

export function replaceArgs(
  store: InspectorStore,
  view: ViewName,
  args: Readonly<Record<string, string | undefined>>,
): void {
  const hash = formatRoute(view, args);
  if (hash === location.hash) return;
  history.replaceState(null, '', hash);
  store.show(parseRoute(hash));
}

/** With a new entry in the history: one can go back. */
export function navigateTo(hash: string): void {
  location.hash = hash;
}
