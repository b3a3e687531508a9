import { describe, expect, it } from 'vitest';
import { RecordCursor } from '../../src/trace/record-cursor.ts';
import { formatRecord, formatTime, toJson } from '../../src/trace/record-format.ts';
import { batchOf, slotsOf, textSlotsOf } from './records.ts';

/** At a record that comes behind the name of its source. */
function at(words: Int32Array): RecordCursor {
  const cursor = new RecordCursor();
  cursor.load(batchOf(textSlotsOf('source', [1, 'edu0']), words));
  cursor.next();
  expect(cursor.next()).toBe(true);
  return cursor;
}

const read = slotsOf({ kind: 'dma.read', time: 1_500_000_001, payload: [0x100, 0, 0x1000, 64, -1] });
const finding = {
  id: 'F3',
  detector: 'use-after-unmap',
  summary: 'edu0 wrote 64 bytes',
  iova: 0x1000n,
  evidence: [{ time: 1 }],
};

describe('formatRecord', () => {
  it('writes a record in one line', () => {
    expect(formatRecord(at(read))).toBe(
      '    1.500000001 [edu0] dma.read requesterId=01:00.0 status=ok iova=0x1000 length=64 pasid=none',
    );
  });

  it('writes a note by its own kind', () => {
    const note = ['client.closed', 'edu0', { reason: 'the peer hung up', bytes: 5, address: 0xffn }];
    expect(formatRecord(at(textSlotsOf('note', note)))).toBe(
      '    0.000000000 [edu0] client.closed reason="the peer hung up" bytes=5 address=0xff',
    );
  });

  it('writes the requester of an invalidation only where it is for one', () => {
    const about = (scope: number) =>
      slotsOf({ kind: 'invalidation', payload: [5, 0, 0, 0, 1 | (scope << 4) | (0x100 << 16)] });
    expect(formatRecord(at(about(3)))).toMatch(/scope=device .*requesterId=01:00\.0$/);
    for (const scope of [0, 1, 2]) {
      expect(formatRecord(at(about(scope)))).not.toContain('requesterId');
      expect(toJson(at(about(scope))).detail).not.toHaveProperty('requesterId');
    }
    expect(toJson(at(about(3))).detail).toMatchObject({ scope: 'device', requesterId: '01:00.0' });
  });

  it('writes a finding by its id, detector and summary', () => {
    expect(formatRecord(at(textSlotsOf('finding', finding)))).toBe(
      '    0.000000000 [edu0] finding F3 use-after-unmap: edu0 wrote 64 bytes',
    );
  });

  it('writes other values, and those that cannot be read, too', () => {
    expect(formatRecord(at(textSlotsOf('finding', [1, 2n])))).toContain('finding [1,"0x2"]');
    expect(formatRecord(at(slotsOf({ kind: 'finding', payload: [3, 0xc1c1c1] })))).toContain('finding unreadable');
  });

  it('writes the number of a source without a name, and - where it is nobody', () => {
    expect(formatRecord(at(slotsOf({ kind: 'reset', source: 9 })))).toContain('[#9] reset what=functionLevel');
    expect(formatRecord(at(slotsOf({ kind: 'reset', source: 0 })))).toContain('[-] reset');
  });

  it('lets no text move the cursor of a terminal or begin another line', () => {
    const note = ['kind\u001b[2J', 'edu0', { 'name\n': 'text\r\n\u001b[31m', c1: ['\u009b2J'] }];
    const line = formatRecord(at(textSlotsOf('note', note)));
    expect(line).toMatch(/^[^\p{Cc}]+$/u);
    expect(line).toContain('kind?[2J name?="text\\r\\n\\u001b[31m"');
    const source = new RecordCursor();
    source.load(batchOf(textSlotsOf('source', [1, 'a\nb']), read));
    source.next();
    source.next();
    expect(formatRecord(source)).toContain('[a?b]');
  });
});

describe('toJson', () => {
  it('has addresses, requester ids and hexadecimal fields as text', () => {
    expect(toJson(at(read))).toEqual({
      time: 1_500_000_001,
      kind: 'dma.read',
      source: 'edu0',
      detail: { requesterId: '01:00.0', status: 'ok', iova: '0x1000', length: 64, pasid: 'none' },
    });
    const register = slotsOf({ kind: 'register.write', payload: [0x40, 0x18, 0x1, 0x2] });
    expect(toJson(at(register)).detail).toEqual({ region: 0, width: 4, offset: '0x18', value: '0x100000002' });
  });

  it('has the kind, source and detail of a note', () => {
    const note = ['client.closed', 'iommu.sock', { at: 0xffn, list: [1n] }];
    expect(toJson(at(textSlotsOf('note', note)))).toEqual({
      time: 0,
      kind: 'note',
      source: 'iommu.sock',
      note: 'client.closed',
      detail: { at: '0xff', list: ['0x1'] },
    });
  });

  it('has a finding as it is', () => {
    expect(toJson(at(textSlotsOf('finding', finding))).detail).toEqual({ ...finding, iova: '0x1000' });
  });

  it('can be written as JSON whatever the record is', () => {
    const records = [
      read,
      textSlotsOf('note', ['a', 'b', { c: 1n << 63n }]),
      slotsOf({ kind: 'finding', payload: [2] }),
    ];
    for (const words of records) expect(JSON.parse(JSON.stringify(toJson(at(words))))).toHaveProperty('kind');
  });
});

describe('formatTime', () => {
  it('keeps nanoseconds', () => {
    expect(formatTime(0)).toBe('    0.000000000');
    expect(formatTime(86_400_123_456_789)).toBe('86400.123456789');
  });
});
