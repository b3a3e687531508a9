import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HELD_JOBS_MAX } from '../../../src/machine/injection/job-gate.ts';
import { applications, injectionRig } from './support.ts';

function rig() {
  const parts = injectionRig();
  const log: string[] = [];
  const { ports, outside, iommuJobs, iommuQueue } = parts;
  return {
    ...parts,
    log,
    work: (name: string) => ports.jobs.push(() => log.push(name)),
    iommuWork: (name: string) => iommuJobs.push(() => log.push(name)),
    run() {
      outside.jobs.run();
      iommuQueue.run();
    },
  };
}

describe('hold', () => {
  it('keeps the work of a device until it is released, in order', () => {
    const { injection, work, run, log, rule } = rig();
    work('before');
    const id = injection.add({ kind: 'hold', device: 'edu0' });
    work('first');
    work('second');
    run();
    expect(log).toEqual(['before']);
    expect(rule(id)).toMatchObject({ applied: 2, held: 2, over: false });
    expect(injection.release(id)).toBe(true);
    work('third');
    run();
    expect(log).toEqual(['before', 'first', 'second', 'third']);
    expect(rule(id)).toMatchObject({ applied: 2, held: 0, over: true });
  });

  it('lets the IOMMU and other devices go on', () => {
    const { injection, outside, iommuWork, run, log } = rig();
    const other = injection.endpoint({ ...outside, name: 'edu1' });
    injection.add({ kind: 'hold', device: 'edu0' });
    other.jobs.push(() => log.push('edu1'));
    iommuWork('iommu');
    run();
    expect(log).toEqual(['edu1', 'iommu']);
  });

  it('lets go when it is removed', () => {
    const { injection, work, run, log } = rig();
    const id = injection.add({ kind: 'hold', device: 'edu0' });
    work('held');
    expect(injection.remove(id)).toBe(true);
    run();
    expect(log).toEqual(['held']);
    expect(injection.list()).toEqual([]);
  });

  it('twice holds until both are released', () => {
    const { injection, work, run, log } = rig();
    const first = injection.add({ kind: 'hold', device: 'edu0' });
    work('a');
    const second = injection.add({ kind: 'hold', device: 'edu0' });
    injection.release(first);
    work('b');
    run();
    expect(log).toEqual(['a']);
    injection.release(second);
    run();
    expect(log).toEqual(['a', 'b']);
  });

  it('does not keep more than its limit: then it ends, in order, and says so', () => {
    const { injection, work, run, log, trace, rule } = rig();
    const id = injection.add({ kind: 'hold', device: 'edu0' });
    const names = Array.from({ length: HELD_JOBS_MAX + 2 }, (_, index) => `${index}`);
    for (const name of names.slice(0, HELD_JOBS_MAX)) work(name);
    run();
    expect(log).toEqual([]);
    for (const name of names.slice(HELD_JOBS_MAX)) work(name);
    run();
    expect(log).toEqual(names);
    expect(rule(id)).toMatchObject({ over: true, held: 0 });
    expect(trace.events.at(-1)).toEqual({
      kind: 'injection.overflow',
      source: 'edu0',
      detail: { held: HELD_JOBS_MAX },
    });
  });
});

describe('delay-invalidation', () => {
  it('delays one piece of work by a time', () => {
    const { injection, time, iommuWork, work, run, log, trace } = rig();
    const id = injection.add({ kind: 'delay-invalidation', milliseconds: 50 });
    iommuWork('invalidation');
    work('dma');
    run();
    time.pass(49);
    run();
    expect(log).toEqual(['dma']);
    time.pass(1);
    run();
    expect(log).toEqual(['dma', 'invalidation']);
    iommuWork('next');
    run();
    expect(log).toEqual(['dma', 'invalidation', 'next']);
    expect(trace.events[0]!.source).toBe('iommu');
    expect(applications(trace)).toEqual([{ injection: id, rule: 'delay-invalidation', applied: 1, milliseconds: 50 }]);
  });

  it('keeps what comes behind it in order', () => {
    const { injection, time, iommuWork, run, log, rule } = rig();
    const id = injection.add({ kind: 'delay-invalidation', milliseconds: 10 });
    iommuWork('delayed');
    iommuWork('behind');
    run();
    expect(log).toEqual([]);
    expect(rule(id)).toMatchObject({ applied: 1, held: 1, over: true });
    time.pass(10);
    run();
    expect(log).toEqual(['delayed', 'behind']);
  });

  it('without a time waits to be released', () => {
    const { injection, time, iommuWork, run, log, rule } = rig();
    const id = injection.add({ kind: 'delay-invalidation', times: 2 });
    iommuWork('a');
    iommuWork('b');
    iommuWork('c');
    time.pass(1e9);
    run();
    expect(log).toEqual([]);
    expect(rule(id)).toMatchObject({ applied: 2, held: 2 });
    injection.release(id);
    run();
    expect(log).toEqual(['a', 'b', 'c']);
  });

  it('released by hand is not touched by its timer', () => {
    const { injection, time, iommuWork, run, log } = rig();
    const id = injection.add({ kind: 'delay-invalidation', milliseconds: 10 });
    iommuWork('a');
    injection.release(id);
    injection.add({ kind: 'delay-invalidation' });
    iommuWork('b');
    time.pass(10);
    run();
    expect(log).toEqual(['a']);
  });

  it('needs an IOMMU', () => {
    const { injection } = injectionRig('none');
    expect(() => injection.add({ kind: 'delay-invalidation' })).toThrow(/no IOMMU/);
  });
});

describe('work that is held', () => {
  it('is neither lost nor doubled, and never overtakes', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.constant({ do: 'work' as const }) },
      fc.record({ do: fc.constant('add' as const), milliseconds: fc.nat(3), times: fc.integer({ min: 1, max: 3 }) }),
      fc.record({ do: fc.constant('release' as const), which: fc.nat(5) }),
      fc.record({ do: fc.constant('remove' as const), which: fc.nat(5) }),
      fc.record({ do: fc.constant('pass' as const), milliseconds: fc.nat(4) }),
      fc.constant({ do: 'run' as const }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const { injection, time, iommuWork, run, log } = rig();
        let asked = 0;
        for (const one of steps) {
          if (one.do === 'work') iommuWork(`${asked++}`);
          else if (one.do === 'run') run();
          else if (one.do === 'pass') time.pass(one.milliseconds);
          else if (one.do === 'add') {
            const { milliseconds, times } = one;
            injection.add({ kind: 'delay-invalidation', times, ...(milliseconds > 0 ? { milliseconds } : {}) });
          } else injection[one.do](one.which + 1);
        }
        const before = log.length;
        for (const { id } of injection.list()) injection.remove(id);
        // What a removed rule held went at once, so that no time need pass.
        run();
        expect(log).toEqual(Array.from({ length: asked }, (_, index) => `${index}`));
        expect(before).toBeLessThanOrEqual(asked);
      }),
    );
  });
});
