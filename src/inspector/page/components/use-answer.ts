/** Asks the machine when a view is shown, when its question changes, and again and again where that is wanted. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { InspectorStore } from '../store/inspector-store.ts';
import { Poller } from '../store/poller.ts';
import type { Answer } from '../wire.ts';

export interface Asked<T> {
  readonly value: T | undefined;
  /** The one before the last look. */
  readonly before: T | undefined;
  /** Why there is none. */
  readonly error: string;
  readonly again: () => void;
}

const AUTOMATIC_MILLISECONDS = 1000;

/** `args` undefined: there is nothing to ask yet. */
export function useAnswer<T>(
  store: InspectorStore,
  operation: string,
  args: object | undefined,
  read: (answer: Answer) => T,
  automatic: boolean,
): Asked<T> {
  const [last, setAsked] = useState<{ key?: string; value?: T; before?: T; error: string }>({ error: '' });
  const key =
    args === undefined
      ? undefined
      : `${operation} ${JSON.stringify(args, (_name, value: unknown) => (typeof value === 'bigint' ? String(value) : value))}`;
  // What was answered to another question is no answer to this one, not even until the new one is there.
  const asked = last.key === key ? last : { error: '' };
  const poller = useRef<Poller | undefined>(undefined);
  const isLive = store.visible.value && store.link.value.state === 'open';
  // The key stands for the question.
  useEffect(() => {
    if (args === undefined || key === undefined) return;
    setAsked({ key, error: '' });
    let isCurrent = true;
    const ask = async () => {
      try {
        const value = read(await store.ask(operation, args));
        if (isCurrent)
          setAsked(({ value: before }) => ({ key, value, error: '', ...(before === undefined ? {} : { before }) }));
      } catch (error) {
        if (isCurrent)
          setAsked(({ value }) => ({
            key,
            error: (error as Error).message,
            ...(value === undefined ? {} : { value }),
          }));
      }
    };
    const made = new Poller({ milliseconds: AUTOMATIC_MILLISECONDS, ask, rest: 3 });
    poller.current = made;
    if (isLive) void made.now();
    return () => {
      isCurrent = false;
      made.want(false);
      poller.current = undefined;
    };
  }, [key, store.machine.value, store.link.value.state]);
  const refreshes = store.refreshes.value;
  const seen = useRef(refreshes);
  useEffect(() => {
    if (seen.current !== refreshes) void poller.current?.now();
    seen.current = refreshes;
  }, [refreshes]);
  useEffect(() => poller.current?.want(automatic && isLive), [automatic, isLive, key]);
  return { value: asked.value, before: asked.before, error: asked.error, again: () => void poller.current?.now() };
}
