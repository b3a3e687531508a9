import { describe, expect, it } from 'vitest';
import { ArgumentError } from '../../../src/machine/argument-checks.ts';
import { MAX_RULES } from '../../../src/machine/injection/injection.ts';
import type { InjectionRule } from '../../../src/machine/injection/rules.ts';
import { applications, injectionRig } from './support.ts';

describe('Injection', () => {
  it('numbers its rules and lists them with what they did', () => {
    const { injection, ports } = injectionRig();
    const drop: InjectionRule = { kind: 'drop-interrupt', device: 'edu0', times: 2 };
    const hold: InjectionRule = { kind: 'hold', device: 'edu0' };
    expect([injection.add(drop), injection.add(hold)]).toEqual([1, 2]);
    ports.line.raise();
    ports.jobs.push(() => {});
    expect(injection.list()).toEqual([
      { id: 1, rule: drop, applied: 1, over: false, held: 0 },
      { id: 2, rule: hold, applied: 1, over: false, held: 1 },
    ]);
  });

  it('lists plain data', () => {
    const { injection } = injectionRig();
    injection.add({ kind: 'refuse', device: 'edu0', iova: 0x1000n });
    expect(structuredClone(injection.list())).toEqual(injection.list());
  });

  it('does not apply a rule any more that is removed, or released', () => {
    const { injection, outside, ports } = injectionRig();
    const removed = injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    const released = injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    injection.remove(removed);
    injection.release(released);
    ports.line.raise();
    expect(outside.line.raised).toBe(1);
    expect(injection.list()).toMatchObject([{ id: released, over: true, applied: 0 }]);
  });

  it('says where there is no such rule', () => {
    const { injection } = injectionRig();
    const id = injection.add({ kind: 'hold', device: 'edu0' });
    expect(injection.remove(id)).toBe(true);
    expect(injection.remove(id)).toBe(false);
    expect(injection.release(id)).toBe(false);
  });

  it('applies rules one after the other, in their order', () => {
    const { injection, ports, trace } = injectionRig();
    injection.add({ kind: 'drop-interrupt', device: 'edu0', times: 2 });
    injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    for (let i = 0; i < 4; i++) ports.line.raise();
    expect(applications(trace).map(detail => [detail.injection, detail.applied])).toEqual([
      [1, 1],
      [1, 2],
      [2, 1],
    ]);
  });

  it.each([
    { kind: 'refuse', device: 'edu7' },
    { kind: 'flip', device: 'edu7', bit: 0 },
    { kind: 'drop-interrupt', device: 'edu7' },
    { kind: 'hold', device: 'edu7' },
  ] as const)('refuses $kind of a device that is not there', rule => {
    const { injection } = injectionRig();
    expect(() => injection.add(rule)).toThrow("there is no endpoint 'edu7': the machine has edu0");
    expect(injection.list()).toEqual([]);
  });

  it('refuses what is malformed', () => {
    const { injection } = injectionRig();
    expect(() => injection.add({ kind: 'flip', device: 'edu0', bit: -1 })).toThrow(ArgumentError);
    expect(() => injection.add({ kind: 'hold' } as InjectionRule)).toThrow(ArgumentError);
  });

  it('has no more than so many rules at once, and makes room where one is over', () => {
    const { injection, ports } = injectionRig();
    for (let i = 0; i < MAX_RULES; i++) injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    expect(() => injection.add({ kind: 'hold', device: 'edu0' })).toThrow(/remove some/);
    ports.line.raise();
    expect(injection.add({ kind: 'hold', device: 'edu0' })).toBe(MAX_RULES + 1);
    expect(injection.list()).toHaveLength(MAX_RULES);
    expect(injection.list()[0]!.id).toBe(2);
  });

  it('keeps a used-up rule that still holds something', () => {
    const { injection, iommuJobs, iommuQueue, rule } = injectionRig();
    const id = injection.add({ kind: 'delay-invalidation' });
    iommuJobs.push(() => {});
    for (let i = 1; i < MAX_RULES; i++) injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    expect(() => injection.add({ kind: 'hold', device: 'edu0' })).toThrow(/remove some/);
    expect(rule(id)).toMatchObject({ over: true, held: 1 });
    injection.release(id);
    expect(iommuQueue.length).toBe(1);
  });
});

describe('drop-invalidation-completion', () => {
  it('is asked for at each completion, and says yes so many times', () => {
    const { injection, trace, rule } = injectionRig();
    const { dropCompletion } = injection;
    expect(dropCompletion()).toBe(false);
    const id = injection.add({ kind: 'drop-invalidation-completion', times: 2 });
    expect([dropCompletion(), dropCompletion(), dropCompletion()]).toEqual([true, true, false]);
    expect(rule(id)).toMatchObject({ applied: 2, over: true });
    expect(trace.events.map(event => event.source)).toEqual(['iommu', 'iommu']);
  });

  it.each(['dma-iommu', 'none'] as const)('is refused by %s', iommu => {
    const { injection } = injectionRig(iommu);
    expect(() => injection.add({ kind: 'drop-invalidation-completion' })).toThrow(iommu);
  });
});
