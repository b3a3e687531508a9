import { afterEach, describe, expect, it, vi } from 'vitest';
import { Debugging, type DebuggingOptions } from '../../src/machine/debugging.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { Injection } from '../../src/machine/injection/injection.ts';
import { EventClass, FaultCause, Kind, MappingSource, StaleWhat } from '../../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader } from '../../src/trace/event-ring.ts';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';
import { parsePolicy } from '../../src/trace/sanitizer/policy.ts';
import { Sanitizer } from '../../src/trace/sanitizer/sanitizer.ts';
import { TraceLog } from '../../src/trace/trace.ts';

const RID = 0x100;
const WRITE = 2;
const IOVA = 0x8000;
const DOMAIN = 7;

function rig(policy: string | undefined = 'on', options: Partial<DebuggingOptions> = {}) {
  const ring = allocateEventRing();
  const reader = new EventRingReader(ring);
  const findings: Finding[] = [];
  const stops: string[] = [];
  const forward = new TraceLog();
  const debugging: Debugging = new Debugging({
    forward,
    ring,
    description: describeMachine('vtd', ['edu@01:00.0']),
    policy: policy === undefined ? undefined : parsePolicy(policy),
    wake: () => {},
    onFinding: finding => findings.push(finding),
    onStop: () => stops.push(debugging.stoppedBy?.detector ?? 'not known'),
    ...options,
  });
  const injection = new Injection({ iommu: 'vtd', trace: forward, after: () => {} });
  injection.iommuJobs({ push: job => job() });
  const { tracer } = debugging;
  const edu = tracer.sourceId('edu0');
  const iommu = tracer.sourceId('iommu');
  /** DMA to a page that nothing was ever mapped at. */
  const refuse = (iova = IOVA) => {
    const first = RID | (WRITE << 16) | (FaultCause.notPresent << 22);
    tracer.emitLong(Kind.fault, iommu, first, 0, iova, 5, DOMAIN, -1, 1, 0, 0, 0, 0, 48, 0);
    tracer.emit(Kind['dma.failed'], edu, RID | (1 << 16) | (1 << 20), 0, iova, 8, -1);
  };
  const attach = () => tracer.emit(Kind.attach, iommu, RID, DOMAIN, 0, -1, 0);
  const map = () => {
    const flags = 3 | (MappingSource.walk << 8) | (12 << 16);
    tracer.emitLong(Kind['mapping.added'], iommu, DOMAIN, 0, IOVA, 0x40, 1, flags, 0, 0, 0, 0, 0, 0, 0);
  };
  /** By an entry of the IOTLB that is not in the tables any more. */
  const useStale = () => {
    const first = RID | (WRITE << 16) | (StaleWhat.iotlb << 18) | (1 << 21);
    tracer.emitLong(Kind.stale, iommu, first, 0, IOVA, 0x40, DOMAIN, 0, 3 | (12 << 8), 8, -1, 0, 0, 0, 0);
  };
  const ask = (command: Parameters<Debugging['answer']>[0]) => debugging.answer(command, injection);
  const records = () => {
    const kinds: number[] = [];
    const cursor = new RecordCursor();
    reader.drain(words => {
      cursor.load(words);
      while (cursor.next()) kinds.push(cursor.kind);
    });
    return kinds;
  };
  return { debugging, tracer, findings, stops, forward, refuse, attach, map, useStale, ask, records };
}

describe('Debugging', () => {
  it('finds mistakes in what is traced, and calls devices by their names', () => {
    const { attach, refuse, findings, ask } = rig();
    attach();
    refuse();
    refuse();
    expect(findings).toMatchObject([{ id: 'F1', detector: 'never-mapped', device: 'edu0' }]);
    expect(ask({ name: 'findings' })).toMatchObject({ findings: [{ id: 'F1', count: 2 }], lost: 0, undecided: false });
  });

  it('passes notes on', () => {
    const { tracer, forward } = rig();
    tracer.note('edu.busy', 'edu0', { offset: 4 });
    expect(forward.kinds()).toEqual(['edu.busy']);
  });

  it('has the IOMMU compare only where a detector needs it', () => {
    expect(rig('on').debugging.checks).toBe(true);
    expect(rig('off,stale-iotlb').debugging.checks).toBe(true);
    expect(rig('off,register-spin').debugging.checks).toBe(false);
    expect(rig('off').debugging.checks).toBe(false);
  });

  it('stops at a finding that is to stop it, and judges nothing that comes of it', () => {
    const { attach, refuse, stops, findings, debugging, ask } = rig('never-mapped=stop');
    attach();
    refuse();
    expect(stops).toEqual(['never-mapped']);
    expect(debugging.stoppedBy).toMatchObject({ id: 'F1', severity: 'stop' });
    refuse(0x9000);
    expect(findings).toHaveLength(1);
    expect(debugging.finish()).toMatchObject({ findings: [{ id: 'F1', count: 1 }] });
    expect(ask({ name: 'findings' })).toMatchObject({ findings: [{ id: 'F1' }] });
  });

  it('does not blame a guest that was cut off for what it left behind', () => {
    const cutOff = rig('never-mapped=stop');
    cutOff.attach();
    cutOff.map();
    cutOff.refuse(0x400000);
    expect(cutOff.debugging.finish().findings.map(({ detector }) => detector)).toEqual(['never-mapped']);
    const ended = rig();
    ended.attach();
    ended.map();
    expect(ended.debugging.finish().findings.map(({ detector }) => detector)).toEqual(['mapping-leak']);
  });

  it('is undecided while an invalidation may still come, and wakes the thread for the decision', async () => {
    const { attach, map, useStale, debugging, ask, findings } = rig();
    expect(debugging.beforeWaiting()).toBe(-1);
    attach();
    map();
    useStale();
    expect(ask({ name: 'findings' })).toMatchObject({ findings: [], undecided: true });
    const wait = debugging.beforeWaiting();
    expect(wait).toBeGreaterThan(0);
    expect(wait).toBeLessThanOrEqual(100);
    await expect.poll(() => debugging.beforeWaiting()).toBe(-1);
    expect(findings).toMatchObject([{ detector: 'stale-iotlb' }]);
    expect(ask({ name: 'findings' })).toMatchObject({ undecided: false });
  });

  it('does not let the thread wait once it is stopped', async () => {
    const { attach, map, useStale, debugging, stops } = rig('stale-iotlb=stop');
    attach();
    map();
    useStale();
    await expect.poll(() => debugging.beforeWaiting()).toBe(0);
    expect(stops).toEqual(['stale-iotlb']);
  });

  it('decides at the end what it suspected, once', () => {
    const { attach, map, useStale, debugging } = rig('off,stale-iotlb');
    attach();
    map();
    useStale();
    const { findings } = debugging.finish();
    expect(findings).toMatchObject([{ detector: 'stale-iotlb', count: 1 }]);
    expect(debugging.finish().findings).toEqual(findings);
  });

  it('tells what is mapped and attached', () => {
    const { attach, map, ask } = rig();
    attach();
    map();
    expect(ask({ name: 'mappings' })).toMatchObject({
      mappings: [{ domain: DOMAIN, iova: 0x8000n, pages: 1, frame: 0x40, permissions: 3, how: 'walk' }],
      attachments: [{ requesterId: RID, device: 'edu0', domain: DOMAIN, pasid: -1 }],
    });
  });

  it('answers with the time, which goes on', () => {
    const { ask } = rig();
    const time = () => (ask({ name: 'findings' }) as { time: number }).time;
    const [first, second] = [time(), time()];
    expect(second).toBeGreaterThanOrEqual(first);
  });

  it('records what is asked for, findings too, and each of them again at the end', () => {
    const { attach, refuse, ask, records, debugging } = rig();
    ask({ name: 'classes', classes: EventClass.fault | EventClass.finding });
    attach();
    refuse();
    debugging.beforeWaiting();
    const { source: name, fault, finding } = Kind;
    expect(records()).toEqual([name, name, fault, Kind['dma.failed'], name, finding]);
    refuse();
    debugging.finish();
    expect(records()).toEqual([fault, Kind['dma.failed'], finding]);
    ask({ name: 'classes', classes: 0 });
    refuse();
    debugging.beforeWaiting();
    expect(records()).toEqual([]);
  });

  it('gives injections to whom they are for', () => {
    const { ask } = rig();
    const id = ask({ name: 'inject', rule: { kind: 'delay-invalidation' } });
    expect(id).toBe(1);
    expect(ask({ name: 'injections' })).toMatchObject([{ id: 1, applied: 0, over: false }]);
    expect(ask({ name: 'releaseInjection', id: 1 })).toBe(true);
    expect(ask({ name: 'injections' })).toMatchObject([{ id: 1, over: true }]);
    expect(ask({ name: 'removeInjection', id: 1 })).toBe(true);
    expect(ask({ name: 'removeInjection', id: 1 })).toBe(false);
    expect(ask({ name: 'injections' })).toEqual([]);
    expect(() => ask({ name: 'inject', rule: { kind: 'flip', device: 'nic', bit: 0 } })).toThrow(/no endpoint 'nic'/);
  });

  describe('says whether it looks', () => {
    it.each([
      ['on', 'on'],
      ['off,register-spin', 'on'],
      ['off', 'off'],
    ])('with the policy %s', (policy, state) => {
      expect(rig(policy).ask({ name: 'findings' })).toMatchObject({ state });
    });

    it('after it was told to stop the machine', () => {
      const { attach, refuse, debugging } = rig('never-mapped=stop');
      attach();
      refuse();
      expect(debugging.finish()).toMatchObject({ state: 'on', findings: [{ id: 'F1' }] });
    });
  });

  describe('goes on where the sanitizer fails', () => {
    const failure = () => {
      throw new Error('a mistake of ours');
    };
    afterEach(() => vi.restoreAllMocks());

    it('over an event', () => {
      const { attach, refuse, debugging, forward, findings } = rig();
      vi.spyOn(Sanitizer.prototype, 'event').mockImplementation(failure);
      attach();
      refuse();
      expect(findings).toEqual([]);
      expect(forward.kinds()).toEqual(['internal.error']);
      expect(debugging.beforeWaiting()).toBe(-1);
      expect(debugging.finish()).toMatchObject({ state: 'failed', findings: [], undecided: false });
    });

    it('over a decision that was due', async () => {
      const { attach, map, useStale, debugging, ask, forward } = rig();
      attach();
      map();
      useStale();
      vi.spyOn(Sanitizer.prototype, 'tick').mockImplementation(failure);
      await expect.poll(() => debugging.beforeWaiting()).toBe(-1);
      expect(ask({ name: 'findings' })).toMatchObject({ state: 'failed', undecided: false });
      expect(forward.kinds()).toEqual(['internal.error']);
    });

    it('over its last words, of which the findings of before remain', () => {
      const { attach, refuse, debugging, forward } = rig();
      attach();
      refuse();
      vi.spyOn(Sanitizer.prototype, 'finish').mockImplementation(failure);
      expect(debugging.finish()).toMatchObject({ state: 'failed', findings: [{ id: 'F1' }] });
      expect(forward.kinds()).toEqual(['internal.error']);
    });

    it('over a question about mappings', () => {
      const { ask, forward, tracer } = rig();
      vi.spyOn(Sanitizer.prototype, 'mappings').mockImplementation(failure);
      for (let times = 0; times < 2; times++) {
        expect(() => ask({ name: 'mappings' })).toThrow(/the sanitizer failed/);
      }
      expect(forward.kinds()).toEqual(['internal.error']);
      expect(tracer.mask).toBe(0);
      expect(ask({ name: 'findings' })).toMatchObject({ state: 'failed' });
    });
  });

  it('without a policy looks for nothing, and says so', () => {
    const { attach, refuse, debugging, ask, findings } = rig(undefined, { policy: undefined });
    attach();
    refuse();
    expect(findings).toEqual([]);
    expect(debugging.checks).toBe(false);
    expect(debugging.beforeWaiting()).toBe(-1);
    expect(ask({ name: 'findings' })).toMatchObject({ state: 'off', findings: [], lost: 0, undecided: false });
    expect(() => ask({ name: 'mappings' })).toThrow(/without the sanitizer/);
    expect(debugging.finish().findings).toEqual([]);
  });
});
