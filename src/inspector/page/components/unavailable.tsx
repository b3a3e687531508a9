/** Says why something cannot be shown. */
import type { ViewName } from '../route.ts';
import type { InspectorStore } from '../store/inspector-store.ts';

/** Views that live on the hardware's state, which a recorded file does not have. */
const HARDWARE_VIEWS: readonly ViewName[] = ['rates', 'tables', 'registers'];
const NO_HARDWARE = 'A recording holds what happened, not the state of the hardware: there is nothing to ask.';

/** Undefined: the view can be shown. */
export function unavailableIn(store: InspectorStore, view: ViewName): string | undefined {
  return store.isRecording && HARDWARE_VIEWS.includes(view) ? NO_HARDWARE : undefined;
}

export function Unavailable({ title, reason }: { readonly title: string; readonly reason: string }) {
  return (
    <div class="notice" data-testid="unavailable">
      <strong>{title}</strong>
      <br />
      {reason}
    </div>
  );
}
