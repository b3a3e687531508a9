import { describe, expect, it } from 'vitest';
import { eventToJson, formatEvent, isNotable } from '../../src/cli/event-printer.ts';

const fault = { kind: 'fault.recorded', source: 'iommu', detail: { iova: 0x1000n, reason: 6, name: 'read denied' } };

describe('event printer', () => {
  it('prints a line with addresses in hexadecimal and words quoted where they need it', () => {
    expect(formatEvent(fault)).toBe('[iommu] fault.recorded iova=0x1000 reason=6 name="read denied"');
  });

  it('prints what a terminal would obey as escapes', () => {
    const detail = { reason: 'a\u001b[2J\u009b\u202eb', plain: 'x\u007f' };
    expect(formatEvent({ kind: 'link.closed', source: 'edu0', detail })).toBe(
      '[edu0] link.closed reason="a\\u001b[2J\\u009b\\u202eb" plain="x\\u007f"',
    );
  });

  it('prints a requester id as bus, device and function', () => {
    const { kind, source } = fault;
    expect(formatEvent({ kind, source, detail: { requesterId: 0x100 } })).toBe(
      '[iommu] fault.recorded requesterId=01:00.0',
    );
  });

  it('prints JSON with 64-bit numbers as hexadecimal strings', () => {
    expect(JSON.parse(eventToJson(fault)).detail).toEqual({ iova: '0x1000', reason: 6, name: 'read denied' });
  });

  it('knows faults as notable and register noise as not', () => {
    expect(isNotable(fault)).toBe(true);
    expect(isNotable({ ...fault, kind: 'register.unknown' })).toBe(false);
  });
});
