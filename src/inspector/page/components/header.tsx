/** What stands above every view: the connection, the machine's state, run control, and the views. */
import { helpShown } from '../keyboard.ts';
import { formatRoute, VIEW_TITLES, VIEWS, type ViewName } from '../route.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { nextTheme, theme } from '../store/theme.ts';
import { unavailableIn } from './unavailable.tsx';

interface Props {
  readonly store: InspectorStore;
}

export function Header({ store }: Props) {
  return (
    <header class="top">
      <div class="bar">
        <span class="brand">viommu</span>
        <MachineChoice store={store} />
        <ConnectionState store={store} />
        <span class="spring" />
        <RunControl store={store} />
        <button type="button" title="light, dark, or as the system (t)" data-testid="theme" onClick={nextTheme}>
          {theme.value === 'auto' ? '◐ auto' : theme.value === 'light' ? '○ light' : '● dark'}
        </button>
        <button
          type="button"
          title="keys (?)"
          data-testid="help"
          onClick={() => {
            helpShown.value = true;
          }}
        >
          ?
        </button>
      </div>
      <Banner store={store} />
      <nav class="tabs" aria-label="Views">
        {VIEWS.map((view, index) => (
          <Tab key={view} store={store} view={view} index={index} />
        ))}
      </nav>
    </header>
  );
}

function MachineChoice({ store }: Props) {
  const machines = store.machines.value;
  const machine = store.machine.value;
  const isGone = machine !== undefined && !machines.includes(machine);
  if (isGone ? machines.length === 0 : machines.length < 2) {
    return (
      <span class="mono" data-testid="machine">
        {machine ?? ''}
      </span>
    );
  }
  return (
    <select
      class="mono"
      aria-label="Machine"
      data-testid="machine"
      value={machine}
      onChange={event => void store.chooseMachine(event.currentTarget.value)}
    >
      {isGone && (
        <option value={machine} disabled>
          {machine} (ended)
        </option>
      )}
      {machines.map(name => (
        <option key={name} value={name}>
          {name}
        </option>
      ))}
    </select>
  );
}

const LINK_LOOKS = {
  open: { dot: 'good', text: 'connected' },
  connecting: { dot: 'waiting', text: 'connecting…' },
  closed: { dot: 'bad', text: 'not connected' },
} as const;

function ConnectionState({ store }: Props) {
  const { state } = store.link.value;
  const { dot, text } = LINK_LOOKS[state];
  return (
    <span class="state" data-testid="connection" data-state={state}>
      <span class={`dot ${dot}`} />
      {text}
    </span>
  );
}

function RunControl({ store }: Props) {
  if (store.isRecording) {
    return (
      <span class="faint" data-testid="run-state" data-state="recording">
        a recorded file: what happened, but no hardware to ask
      </span>
    );
  }
  const isPaused = store.state.value === 'paused';
  const isOff = store.link.value.state !== 'open' || store.machineAbsence !== undefined;
  const error = store.controlError.value;
  return (
    <>
      {error !== '' && (
        <span class="problem" data-testid="control-error">
          {error}
        </span>
      )}
      {isOff ? (
        <span class="state faint" data-testid="run-state" data-state="unknown">
          not known whether it runs
        </span>
      ) : (
        <span class="state" data-testid="run-state" data-state={store.state.value}>
          <span class={`dot ${isPaused ? 'waiting' : 'good'}`} />
          {isPaused ? 'paused' : 'running'}
        </span>
      )}
      <button
        type="button"
        data-testid="pause"
        disabled={isOff}
        title="p"
        onClick={() => void store.control(isPaused ? 'resume' : 'pause')}
      >
        {isPaused ? '▶ Resume' : '‖ Pause'}
      </button>
      <button
        type="button"
        data-testid="step-dma"
        disabled={isOff || !isPaused}
        title="go on until one DMA transfer is done (d)"
        onClick={() => void store.control('dma')}
      >
        Step DMA
      </button>
      <button
        type="button"
        data-testid="step-register"
        disabled={isOff || !isPaused}
        title="go on until one register was accessed (r)"
        onClick={() => void store.control('register')}
      >
        Step register
      </button>
    </>
  );
}

function Banner({ store }: Props) {
  const { state, reason } = store.link.value;
  if (state === 'open') {
    const absence = store.machineAbsence;
    return absence === undefined ? null : (
      <div class="banner" role="status" data-testid="machine-absence">
        {absence}
      </div>
    );
  }
  if (reason === '') return null;
  return (
    <div class="banner problem" role="alert" data-testid="banner">
      The connection is closed: {reason}. What you see is what was known before; it is tried again.
    </div>
  );
}

function Tab({ store, view, index }: Props & { readonly view: ViewName; readonly index: number }) {
  const isCurrent = store.route.value.view === view;
  const count = view === 'findings' ? store.findings.value.length + store.findingsLost.value : 0;
  const reason = unavailableIn(store, view);
  return (
    <a
      href={formatRoute(view)}
      class={reason === undefined ? '' : 'greyed'}
      aria-current={isCurrent ? 'page' : undefined}
      title={reason ?? `key ${index + 1}`}
      data-testid={`tab-${view}`}
    >
      {VIEW_TITLES[view]}
      {count > 0 && (
        <span class="count" data-testid="findings-badge">
          {count}
        </span>
      )}
    </a>
  );
}
