import { describe, expect, it } from 'vitest';
import type { MachineEvent } from '../../src/machine/operations-command.ts';
import { Arrivals } from '../../src/testing/arrivals.ts';
import { EVENTS_KEPT, EventLog } from '../../src/testing/event-log.ts';

const event = (kind: string, source = 'edu0') => ({ kind, source, detail: {} }) as MachineEvent;

function rig(...kinds: string[]) {
  const arrivals = new Arrivals();
  const log = new EventLog(arrivals);
  for (const kind of kinds) log.add(event(kind));
  return { arrivals, log, kind: (name: string) => log.first(one => one.kind === name, 60_000, `'${name}'`) };
}

describe('EventLog', () => {
  it('finds the first event that came before', async () => {
    const { log, kind } = rig('a', 'b');
    log.add(event('b', 'edu1'));
    expect(await kind('b')).toEqual(event('b'));
  });

  it('waits for one that comes', async () => {
    const { log, kind } = rig('a');
    const found = kind('b');
    log.add(event('c'));
    log.add(event('b'));
    expect(await found).toEqual(event('b'));
  });

  it('does not find what it forgot', async () => {
    const { log, kind } = rig('a');
    log.forget();
    expect(log.all).toEqual([]);
    const found = kind('a');
    log.add(event('a', 'edu1'));
    expect(await found).toEqual(event('a', 'edu1'));
  });

  it('says which events there were instead, the last five', async () => {
    const { log } = rig('a', 'b', 'c', 'd', 'e', 'f');
    await expect(log.first(() => false, 1, "'x'")).rejects.toThrow(
      "there was no event 'x' within 1 ms; the last ones: edu0 b, edu0 c, edu0 d, edu0 e, edu0 f",
    );
  });

  it('says that there was none at all', async () => {
    await expect(rig().log.first(() => true, 1, "'x'")).rejects.toThrow(/none at all/);
  });

  it('does not wait for a machine that has ended', async () => {
    const { arrivals, kind } = rig('a');
    const found = kind('b');
    arrivals.close();
    await expect(found).rejects.toThrow("there was no event 'b' before the machine ended; the last ones: edu0 a");
  });

  it('keeps the latest events only', () => {
    const { log } = rig();
    for (let index = 0; index <= EVENTS_KEPT; index++) log.add(event(`${index}`));
    expect(log.all).toHaveLength(EVENTS_KEPT / 2 + 1);
    expect(log.all[0]?.kind).toBe(`${EVENTS_KEPT / 2}`);
    expect(log.all.at(-1)?.kind).toBe(`${EVENTS_KEPT}`);
  });
});
