/** Keys that work everywhere in the page, as data: the help lists what this table says. */
import { signal } from '@preact/signals';
import { formatRoute, VIEW_TITLES, VIEWS } from './route.ts';
import type { InspectorStore } from './store/inspector-store.ts';
import { nextTheme } from './store/theme.ts';

export interface Shortcut {
  readonly key: string;
  readonly about: string;
  readonly run: (store: InspectorStore) => void;
}

export const helpShown = signal(false);

const control = (what: 'pause' | 'resume' | 'dma' | 'register') => (store: InspectorStore) => {
  if (!store.isRecording) void store.control(what);
};

export const SHORTCUTS: readonly Shortcut[] = [
  ...VIEWS.map((view, index) => ({
    key: String(index + 1),
    about: VIEW_TITLES[view],
    run: () => {
      location.hash = formatRoute(view);
    },
  })),
  {
    key: 'p',
    about: 'pause, or let it run on',
    run: store => control(store.state.value === 'paused' ? 'resume' : 'pause')(store),
  },
  { key: 'd', about: 'while paused: one DMA transfer', run: control('dma') },
  { key: 'r', about: 'while paused: one register access', run: control('register') },
  { key: 'u', about: 'read again what is shown', run: store => void store.refresh() },
  { key: '/', about: 'go to the address or search field', run: () => focusSearch() },
  { key: 't', about: 'light, dark, or as the system', run: () => nextTheme() },
  {
    key: '?',
    about: 'this list',
    run: () => {
      helpShown.value = !helpShown.value;
    },
  },
];

/** Of views; they handle them themselves. */
export const VIEW_KEYS: readonly { readonly where: string; readonly keys: string; readonly about: string }[] = [
  { where: 'Address space', keys: '+ −', about: 'nearer, farther' },
  { where: 'Address space', keys: '← →', about: 'move; with Shift by a whole picture' },
  { where: 'Address space', keys: 'Home', about: 'everything' },
  { where: 'Address space', keys: '[ ]', about: 'the mapping before, the next one' },
  { where: 'Trace', keys: '↑ ↓ PgUp PgDn', about: 'move among the records' },
  { where: 'Trace', keys: 'Home End', about: 'the oldest, the newest' },
  { where: 'Trace', keys: 'f', about: 'follow what comes, or stand still' },
];

/** What is typed into a field is text. */
export function isTyping(target: EventTarget | null): boolean {
  return (
    target instanceof HTMLElement &&
    (target.matches('input:not([type=checkbox]), textarea, select') || target.isContentEditable)
  );
}

const RUN_CONTROL: ReadonlySet<string> = new Set(['p', 'd', 'r']);

export function startKeyboard(store: InspectorStore): void {
  addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === 'Escape') {
      helpShown.value = false;
      if (isTyping(event.target)) (event.target as HTMLElement).blur();
      return;
    }
    if (isTyping(event.target)) return;
    const shortcut = SHORTCUTS.find(one => one.key === event.key);
    if (shortcut === undefined) return;
    event.preventDefault();
    // A key that is held does not pause and resume by turns.
    if (event.repeat && RUN_CONTROL.has(event.key)) return;
    shortcut.run(store);
  });
}

function focusSearch(): void {
  const field = document.querySelector<HTMLInputElement>('[data-search]');
  field?.focus();
  field?.select();
}
