import { describe, expect, it } from 'vitest';
import { Kind } from '../../../src/trace/event-kinds.ts';
import { AttachmentLog } from '../../../src/trace/sanitizer/attachment-log.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { FindingLog } from '../../../src/trace/sanitizer/finding-log.ts';
import { InvalidationLog } from '../../../src/trace/sanitizer/invalidation-log.ts';
import {
  MAX_ATTACHMENTS,
  MAX_DETACHMENTS,
  MAX_ENDED_DOMAINS,
  MAX_EVIDENCE,
  MAX_FINDINGS_PER_DETECTOR,
  MAX_FINDINGS_PER_DEVICE,
  MAX_INVALIDATIONS,
  MAX_MEMORY_REGIONS,
  MAX_PAST_MAPPINGS,
} from '../../../src/trace/sanitizer/limits.ts';
import { MappingHistory } from '../../../src/trace/sanitizer/mapping-history.ts';
import { MemoryMap } from '../../../src/trace/sanitizer/memory-map.ts';
import { defaultPolicy } from '../../../src/trace/sanitizer/policy.ts';
import { Sanitizer } from '../../../src/trace/sanitizer/sanitizer.ts';
import { encode, MS, Scenario, Status } from './scenario.ts';

const page = (start: number, pages = 1) => ({ domain: 1, start, pages, frame: start, permissions: 3, how: 1 });

describe('findings', () => {
  it('that happen again are counted, and keep their first evidence and the last access', () => {
    const scenario = new Scenario().map(0x5000).unmapAndFlush(0x5000).after(MS).refused(0x5000, 64);
    const first = scenario.only;
    scenario.after(MS).refused(0x5010, 32).after(MS).refused(0x5020, 16);
    expect(scenario.only).toMatchObject({ count: 3, first: first.first, last: scenario.now, summary: first.summary });
    expect(scenario.only.evidence.slice(0, -1)).toEqual(first.evidence);
    expect(scenario.only.evidence.at(-1)!.text).toContain('16 bytes at 0x5020');
  });

  it('of other pages and devices are others', () => {
    const scenario = new Scenario().refused(0x5000).refused(0x6000);
    scenario.fault(0x5000, { requesterId: 0x200 }).failed(0x5000, 64, { requesterId: 0x200 });
    expect(scenario.findings.map(({ id, device }) => `${id} ${device}`)).toEqual(['F1 edu0', 'F2 edu0', 'F3 edu1']);
  });

  it('are bounded, and those without room are counted', () => {
    const scenario = new Scenario();
    for (let i = 0; i < MAX_FINDINGS_PER_DEVICE + 7; i++) scenario.failed(i * 4096, 4, { status: Status.notBusMaster });
    expect(scenario.findings).toHaveLength(MAX_FINDINGS_PER_DEVICE);
    expect(scenario.sanitizer.lost).toBe(7);
    expect(scenario.sanitizer.lostByDetector).toEqual({ 'bus-master-off': 7 });
    scenario.failed(0, 4, { status: Status.notBusMaster });
    expect(scenario.findings[0]!.count).toBe(2);
    expect(scenario.sanitizer.lost).toBe(7);
  });

  it('of one detector and device leave room for other detectors and devices', () => {
    const scenario = new Scenario();
    for (let i = 0; i < 2 * MAX_FINDINGS_PER_DEVICE; i++) scenario.failed(i * 4096, 4, { status: Status.notBusMaster });
    scenario.failed(0x5000, 4, { status: Status.notBusMaster, requesterId: 0x200 }).refused(0x5000);
    expect(scenario.findings.slice(-2).map(one => [one.detector, one.device])).toEqual([
      ['bus-master-off', 'edu1'],
      ['never-mapped', 'edu0'],
    ]);
  });

  it('about made-up requester ids are bounded, too', () => {
    const scenario = new Scenario();
    for (let id = 1; id <= MAX_FINDINGS_PER_DETECTOR + 3; id++)
      scenario.fault(0x5000, { requesterId: id }).failed(0x5000, 4, { requesterId: id });
    expect(scenario.findings).toHaveLength(MAX_FINDINGS_PER_DETECTOR);
    expect(scenario.sanitizer.lost).toBe(3);
  });

  it('stop the machine also where there is no room for them', () => {
    const stopped: Finding[] = [];
    const scenario = new Scenario({ policy: 'never-mapped=stop', onStop: finding => stopped.push(finding) });
    for (let i = 0; i <= MAX_FINDINGS_PER_DEVICE; i++) scenario.refused((i + 1) * 0x10000);
    expect(scenario.findings).toHaveLength(MAX_FINDINGS_PER_DEVICE);
    expect(stopped).toHaveLength(MAX_FINDINGS_PER_DEVICE + 1);
    expect(stopped.at(-1)).toMatchObject({ id: `F${MAX_FINDINGS_PER_DEVICE + 1}`, severity: 'stop' });
  });

  it('have bounded evidence', () => {
    const scenario = new Scenario();
    for (let id = 0x400; id < 0x420; id++)
      scenario.event('context.present', { requesterId: id, for: 0x100, domain: 1 });
    scenario.fault(0x5000, { cause: 4, domain: -1 }).failed(0x5000, 4);
    expect(scenario.only.detector).toBe('wrong-requester-id');
    expect(scenario.only.evidence.length).toBeLessThanOrEqual(MAX_EVIDENCE);
  });

  it('are put into words again only when they are read', () => {
    let told = 0;
    const log = new FindingLog({ policy: defaultPolicy() });
    const evidence = (time: number) => ({ time, kind: 'fault', source: 'iommu', text: `at ${time}` });
    const access = (time: number) => ({
      time,
      tell: () => {
        told++;
        return evidence(time);
      },
    });
    const report = (time: number) =>
      log.report({ detector: 'never-mapped', device: 'edu0', key: 1, access: access(time) }, () => ({
        summary: 's',
        explanation: 'e',
      }));
    for (let time = 1; time <= 100; time++) report(time);
    expect(told).toBe(1);
    expect(log.findings).toMatchObject([
      { count: 100, first: 1, last: 100, evidence: [{ text: 'at 1' }, { text: 'at 100' }] },
    ]);
    expect(told).toBe(2);
    expect(log.findings[0]).toBe(log.findings[0]);
    report(101);
    expect(log.findings[0]).toMatchObject({ count: 101, last: 101 });
  });

  it('that happen again are handed over again only where that is asked for', () => {
    const told: boolean[] = [];
    const sanitizer = new Sanitizer({
      policy: defaultPolicy(),
      endpoints: new Map(),
      onFinding: (_finding, isNew) => told.push(isNew),
    });
    for (let i = 0; i < 3; i++) sanitizer.event(Kind['dma.failed'], 'edu0', i, encode('dma.failed', { status: 2 }));
    expect(told).toEqual([true]);
    expect(sanitizer.findings[0]!.count).toBe(3);
  });

  it('are plain data', () => {
    const scenario = new Scenario().map(0x5000).unmapAndFlush(0x5000).refused(0x5000);
    expect(structuredClone(scenario.only)).toEqual(scenario.only);
  });

  it('are handed over at once, the first time as new', () => {
    const told: [string, boolean][] = [];
    const scenario = new Scenario({ onFinding: ({ id }, isNew) => told.push([id, isNew]) });
    scenario.refused(0x5000).refused(0x5000);
    expect(told).toEqual([
      ['F1', true],
      ['F1', false],
    ]);
  });

  it('stop the machine where the policy says so, within the event', () => {
    const stopped: Finding[] = [];
    const scenario = new Scenario({ policy: 'never-mapped=stop', onStop: finding => stopped.push(finding) });
    scenario.failed(0x9000, 4, { status: Status.notBusMaster });
    expect(stopped).toEqual([]);
    scenario.refused(0x5000);
    expect(stopped).toMatchObject([{ detector: 'never-mapped', severity: 'stop' }]);
  });

  it('that are off are not made', () => {
    expect(new Scenario({ policy: '-never-mapped' }).refused(0x5000).names).toEqual([]);
  });
});

describe('history', () => {
  it('of mappings that went keeps the latest, and says what it dropped', () => {
    const history = new MappingHistory(100, 4);
    for (let i = 0; i < 6; i++) {
      history.added(page(i), i);
      history.removed(page(i), i + 0.5);
    }
    expect(history.past.size).toBe(4);
    expect(history.past.droppedBefore).toBe(1.5);
    expect(history.past.find(1, 1)).toBeUndefined();
    expect(history.past.find(1, 2)).toMatchObject({ since: 2, removed: 2.5 });
  });

  it('of live mappings forgets what does not fit, and counts it', () => {
    const history = new MappingHistory(3);
    for (let i = 0; i < 5; i++) history.added(page(2 * i), i);
    expect(history.live).toBe(3);
    expect(history.forgotten).toBe(2);
  });

  it('does not grow when mappings are cut in two', () => {
    const history = new MappingHistory(4);
    history.added(page(0, 1000), 0);
    for (let i = 1; i < 999; i += 2) history.removed(page(i), i);
    expect(history.live).toBeLessThanOrEqual(4);
    expect(history.forgotten).toBeGreaterThan(0);
  });

  it('that was dropped is told by findings that rest on its absence', () => {
    const scenario = new Scenario();
    for (let i = 0; i <= MAX_PAST_MAPPINGS; i++) scenario.after(1000).map(0x5000).unmap(0x5000);
    scenario.after(5 * MS).refused(0x9000000);
    expect(scenario.only.explanation).toMatch(/History older than [\d.]+ ms was dropped/);
  });

  it('of invalidations is a ring', () => {
    const log = new InvalidationLog();
    const one = {
      source: 'iommu',
      domain: 1,
      pages: 1,
      target: 0,
      scope: 2,
      origin: 0,
      leafOnly: false,
      requesterId: 0,
    };
    for (let i = 0; i < MAX_INVALIDATIONS + 3; i++) log.add({ ...one, time: i, start: i });
    expect(log.size).toBe(MAX_INVALIDATIONS);
    expect(log.droppedBefore).toBe(2);
    expect(log.lastCovering(1, 2, 1e9)).toBeUndefined();
    expect(log.lastNaming(1, 2)).toBeUndefined();
    expect(log.lastNaming(1, 3)).toMatchObject({ time: 3 });
    expect(log.lastCovering(1, 3, 1e9)).toMatchObject({ time: 3 });
    expect(log.lastCovering(1, 3, 2)).toBeUndefined();
  });

  it('of attachments is bounded both ways', () => {
    const log = new AttachmentLog();
    const attachment = { requesterId: 1, domain: 1, kind: 0, since: 0 };
    for (let pasid = 0; pasid < MAX_ATTACHMENTS + 2; pasid++) log.attach({ ...attachment, pasid });
    expect(log.all()).toHaveLength(MAX_ATTACHMENTS);
    expect(log.forgotten).toBe(2);
    expect(log.users(1)).toBe(MAX_ATTACHMENTS);
    log.reset(5);
    expect(log.users(1)).toBe(0);
    expect(log.lastOf(1, 0)).toBeUndefined();
    expect(log.lastOf(1, MAX_ATTACHMENTS - MAX_DETACHMENTS)).toMatchObject({ until: 5, reset: true });
  });

  it('of domains that ended is bounded', () => {
    const log = new AttachmentLog();
    const attachment = { requesterId: 1, pasid: -1, kind: 0, since: 0 };
    for (let domain = 0; domain <= MAX_ENDED_DOMAINS; domain++) {
      log.attach({ ...attachment, domain });
      log.detach(1, -1, 10 + domain);
    }
    expect(log.concerns(2, 1, 11)).toBe(false);
    expect(log.concerns(2, 1, 12)).toBe(true);
    expect(log.concerns(1, MAX_ENDED_DOMAINS, 5)).toBe(true);
    // The first one is forgotten, and so taken for one that goes on.
    expect(log.concerns(2, 0, 5)).toBe(true);
  });

  it('of a domain goes on where its only user is attached to it again', () => {
    const log = new AttachmentLog();
    const attachment = { requesterId: 1, pasid: -1, domain: 7, kind: 0 };
    log.attach({ ...attachment, since: 1 });
    log.attach({ ...attachment, kind: 3, since: 5 });
    expect(log.concerns(2, 7, 3)).toBe(true);
    expect(log.users(7)).toBe(1);
    log.detach(1, -1, 9);
    expect(log.concerns(2, 7, 3)).toBe(false);
    expect(log.concerns(1, 7, 3)).toBe(true);
  });

  it('of memory claims nothing when there were too many regions', () => {
    const memory = new MemoryMap();
    expect(memory.known).toBe(false);
    for (let i = 0; i < MAX_MEMORY_REGIONS; i++) memory.added('edu0', 2 * i, 1, true);
    expect(memory.known).toBe(true);
    memory.added('edu0', 1, 1, true);
    expect(memory.known).toBe(false);
  });
});
