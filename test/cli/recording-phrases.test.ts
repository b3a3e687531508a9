import { describe, expect, it } from 'vitest';
import { phraseOf } from '../../src/cli/recording-phrases.ts';
import {
  AttachKind,
  EVENT_KINDS,
  FaultCause,
  InvalidationScope,
  InvalidationTarget,
  Kind,
  ResetWhat,
  StaleWhat,
} from '../../src/trace/event-kinds.ts';
import { fieldsOf, standardDecoder } from '../../src/trace/record-fields.ts';

const nameOf = (requesterId: number) => (requesterId === 0x100 ? 'edu0' : 'other');

function phrase(kind: keyof typeof Kind, ...payload: number[]): string | undefined {
  return phraseOf(kind, fieldsOf(standardDecoder.kind(Kind[kind])!, Int32Array.from(payload)), nameOf);
}

const invalidation = (target: number, scope: number, leafOnly = 0) =>
  phrase('invalidation', 7, 0, 0x8000, 2, target | (scope << 4) | (leafOnly << 12) | (0x100 << 16));

describe('records in words', () => {
  it.each([
    ['a transfer', phrase('dma.read', 0x100, 0, 0x8000, 64, -1), '64 bytes at 0x8000'],
    ['one byte', phrase('dma.write', 0x100, 0, 0x8000, 1, -1), '1 byte at 0x8000'],
    ['a transfer with a PASID', phrase('dma.read', 0x100, 0, 0x8000, 64, 5), '64 bytes at 0x8000 PASID 5'],
    [
      'a transfer that failed',
      phrase('dma.failed', 0x100 | (2 << 16), 1, 0x8000, 64, -1),
      'read of 64 bytes at 0x100008000: bus mastering is off',
    ],
    [
      'a mapping',
      phrase('mapping.added', 7, 0, 0x8000, 0x12, 2, 1),
      '0x8000-0x9fff -> 0x12000 r, domain 7 (operation)',
    ],
    [
      'scattered pages',
      phrase('mapping.removed', 7, 0, 0x8000, -1, 2, 3 | (3 << 8)),
      '0x8000-0x9fff -> scattered pages rw, domain 7 (detach)',
    ],
    [
      'a mapping that changed',
      phrase('mapping.changed', 7, 0, 0x8000, 0x12, 1, 2, 0x34, 3),
      '0x8000-0x8fff -> 0x12000 w, domain 7 (operation); before: 0x34000 rw',
    ],
    ['an attachment', phrase('attach', 0x100, 7, AttachKind.translated, -1), 'edu0 to domain 7'],
    ['another kind of it', phrase('attach', 0x100, 7, AttachKind.passThrough, -1), 'edu0 to domain 7, passThrough'],
    ['a detachment', phrase('detach', 0x100, 7, 0, 3), 'edu0 PASID 3 from domain 7'],
    ['a reset', phrase('reset', ResetWhat.functionLevel), 'function-level reset'],
    [
      'a fault',
      phrase('fault', 0x100 | (2 << 16) | (FaultCause.denied << 22), 0, 0x8000, 5, 7, -1),
      'edu0 write at 0x8000 refused: not allowed there (reason 0x5)',
    ],
    [
      'a stale answer',
      phrase('stale', 0x100 | (1 << 16) | (StaleWhat.iotlb << 18), 0, 0x8000, 0x12),
      'edu0 read at 0x8000 was answered from a stale IOTLB entry, 0x12000',
    ],
    [
      'a translation',
      phrase('translation', 0x100 | (2 << 16) | (2 << 18), 0, 0x8000, 0x12, 7),
      'edu0 write at 0x8000 -> 0x12000 (IOTLB)',
    ],
    ['an invalidation of all', invalidation(InvalidationTarget.iotlb, InvalidationScope.all), 'IOTLB, everything'],
    [
      'of a domain',
      invalidation(InvalidationTarget.context, InvalidationScope.domain),
      'context cache, all of domain 7',
    ],
    ['of a device', invalidation(InvalidationTarget.context, InvalidationScope.device), 'context cache, edu0'],
    [
      'of pages',
      invalidation(InvalidationTarget.iotlb, InvalidationScope.range, 1),
      'IOTLB, 0x8000-0x9fff of domain 7, leaf entries only',
    ],
  ])('%s', (_what, said, expected) => {
    expect(said).toBe(expected);
  });

  it('has none for a kind that it does not know', () => {
    expect(phraseOf('something.new', {}, nameOf)).toBeUndefined();
    expect(phraseOf('toString', {}, nameOf)).toBeUndefined();
  });

  it.each(EVENT_KINDS.map(({ name }) => name))('gets over records of %s without any of the members', name => {
    expect(phraseOf(name, {}, nameOf) ?? '').not.toMatch(/\n/);
  });
});
