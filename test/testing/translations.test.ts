import { describe, expect, it } from 'vitest';
import { Arrivals } from '../../src/testing/arrivals.ts';
import { RecordLog } from '../../src/testing/record-log.ts';
import {
  describeExpected,
  describeTranslations,
  findTranslation,
  translatedRuns,
} from '../../src/testing/translations.ts';
import { batchOf, slotsOf, textSlotsOf } from '../trace/records.ts';

const RID = 0x100;
const READ = 1;
const WRITE = 2;

function translation(iova: number, frame: number, access = READ, requesterId = RID): Int32Array {
  return slotsOf({ kind: 'translation', source: 2, payload: [requesterId | (access << 16), 0, iova, frame, 1] });
}

function transfer(iova: number, length: number, access = READ, source = 1, requesterId = RID): Int32Array {
  const kind = access === READ ? 'dma.read' : 'dma.write';
  return slotsOf({ kind, source, payload: [requesterId, 0, iova, length, -1] });
}

function logOf(...records: Int32Array[]): RecordLog {
  const log = new RecordLog(new Arrivals());
  const names = ['edu0', 'iommu', 'edu1'].map((name, index) => textSlotsOf('source', [index + 1, name], index + 1));
  log.take(batchOf(...names, ...records));
  return log;
}

describe('translatedRuns', () => {
  it('are translations with the transfers that they were made for', () => {
    const log = logOf(translation(0x8010, 0x20), transfer(0x8010, 64));
    expect([...translatedRuns(log)]).toEqual([
      { device: 'edu0', access: 'read', iova: 0x8010n, bytes: 64, to: 0x20010n },
    ]);
  });

  it('of a scattered transfer end where the next begins', () => {
    const log = logOf(translation(0x8ff0, 0x20, WRITE), translation(0x9000, 0x7, WRITE), transfer(0x8ff0, 0x30, WRITE));
    expect([...translatedRuns(log)]).toEqual([
      { device: 'edu0', access: 'write', iova: 0x8ff0n, bytes: 0x10, to: 0x20ff0n },
      { device: 'edu0', access: 'write', iova: 0x9000n, bytes: 0x20, to: 0x7000n },
    ]);
  });

  it('of another device wait for its own transfer', () => {
    const other = 0x200;
    const log = logOf(
      translation(0x8000, 1),
      translation(0x8000, 2, READ, other),
      transfer(0x8000, 4),
      transfer(0x8000, 4, READ, 3, other),
    );
    expect([...translatedRuns(log)].map(({ device, to }) => [device, to])).toEqual([
      ['edu0', 0x1000n],
      ['edu1', 0x2000n],
    ]);
  });

  it('without a transfer yet are not told', () => {
    expect([...translatedRuns(logOf(translation(0x8000, 1)))]).toEqual([]);
  });
});

describe('findTranslation', () => {
  const log = logOf(translation(0x8ff0, 0x20, WRITE), translation(0x9000, 0x7, WRITE), transfer(0x8ff0, 0x30, WRITE));

  it.each([
    ['its first byte', { iova: 0x8ff0n }, true],
    ['its last byte', { iova: 0x901fn }, true],
    ['the byte before', { iova: 0x8fefn }, false],
    ['the byte behind', { iova: 0x9020n }, false],
    ['where it led to', { iova: 0x8ff8n, to: 0x20ff8n }, true],
    ['where its second page led to', { iova: 0x9004n, to: 0x7004n }, true],
    ['where it did not lead to', { iova: 0x9004n, to: 0x21004n }, false],
    ['its device', { iova: 0x9000n, device: 'edu0' }, true],
    ['another device', { iova: 0x9000n, device: 'edu1' }, false],
    ['its access', { iova: 0x9000n, access: 'write' as const }, true],
    ['another access', { iova: 0x9000n, access: 'read' as const }, false],
  ])('knows %s', (_what, expected, found) => {
    expect(findTranslation(log, expected) !== undefined).toBe(found);
  });
});

describe('messages', () => {
  it('show the last five translations', () => {
    const pages = [1, 2, 3, 4, 5, 6].flatMap(page => [translation(page << 12, page), transfer(page << 12, 8)]);
    expect(describeTranslations(logOf(...pages))).toBe(
      [
        'the last ones were:',
        '  edu0 read of 8 bytes at 0x2000 -> 0x2000',
        '  edu0 read of 8 bytes at 0x3000 -> 0x3000',
        '  edu0 read of 8 bytes at 0x4000 -> 0x4000',
        '  edu0 read of 8 bytes at 0x5000 -> 0x5000',
        '  edu0 read of 8 bytes at 0x6000 -> 0x6000',
      ].join('\n'),
    );
    expect(describeTranslations(logOf())).toBe('there was no translation at all');
  });

  it('say what was expected', () => {
    expect(describeExpected({ iova: 0x10n })).toBe('any device access at 0x10');
    expect(describeExpected({ device: 'edu0', access: 'read', iova: 0x10n, to: 0x20n })).toBe(
      'edu0 read at 0x10 -> 0x20',
    );
  });
});
