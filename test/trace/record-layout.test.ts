import { describe, expect, it } from 'vitest';
import {
  MAX_TEXT_BYTES,
  payloadWords,
  recordHeader,
  SLOT_BYTES,
  SLOT_WORDS,
  textSlots,
} from '../../src/trace/record-layout.ts';

describe('the layout of records', () => {
  it('has slots of 32 bytes', () => {
    expect(SLOT_BYTES).toBe(32);
    expect(SLOT_WORDS * 4).toBe(SLOT_BYTES);
  });

  it('puts kind, slots and source into word 0', () => {
    expect(recordHeader(0x12, 2, 0x345)).toBe(0x03450212);
    expect(recordHeader(255, 255, 65535) >>> 0).toBe(0xffffffff);
  });

  it('holds 5 payload words in a slot and 8 more in each further one', () => {
    expect([1, 2, 3].map(payloadWords)).toEqual([5, 13, 21]);
  });

  it('begins a text at word 4 of the first slot', () => {
    expect(textSlots(16)).toBe(1);
    expect(textSlots(17)).toBe(2);
    expect(textSlots(48)).toBe(2);
  });

  it('holds texts of up to 8144 bytes', () => {
    expect(MAX_TEXT_BYTES).toBe(8144);
    expect(textSlots(MAX_TEXT_BYTES)).toBe(255);
  });
});
