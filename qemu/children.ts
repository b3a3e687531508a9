/**
 * Sees to it that no QEMU outlives this process: every way out that JavaScript can see is covered here; death by SIGKILL is
 * covered by QEMU itself where it can (`-run-with exit-with-parent`, see launch.ts).
 */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Ends a child and removes its files at once, without waiting. */
type Reaper = () => void;

/** What is done to a child when a signal arrives that somebody else in this process handles too: it may take its time. */
export interface Child {
  readonly endNow: Reaper;
  readonly askToEnd: Reaper;
}

const children = new Set<Child>();

/** From now until the returned function is called, the child ends with this process. */
export function endWithProcess(child: Child): () => void {
  if (children.size === 0) listen();
  children.add(child);
  return () => {
    if (children.delete(child) && children.size === 0) unlisten();
  };
}

function listen(): void {
  process.on('exit', endAll);
  for (const signal of SIGNALS) process.on(signal, onSignal);
}

function unlisten(): void {
  process.off('exit', endAll);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

/** Every one, also where one cannot be ended; throws then. */
function endAll(): void {
  const failures: unknown[] = [];
  for (const child of children) {
    try {
      child.endNow();
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

function onSignal(signal: NodeJS.Signals): void {
  if (process.listenerCount(signal) > 1) {
    // Somebody else decides when this process ends; the children are on their way out meanwhile.
    for (const child of children) child.askToEnd();
    return;
  }
  // A listener takes away the signal's effect on this process: give it back.
  endAll();
  children.clear();
  unlisten();
  process.kill(process.pid, signal);
}
