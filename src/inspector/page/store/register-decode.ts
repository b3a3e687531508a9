/** Registers by their definition: values, fields, and what changed since the last look. */
import type { RegisterBlockDescription, RegisterDescription } from '../../../machine/inspection.ts';
import { bitsOf } from '../format.ts';

export interface DecodedField {
  readonly name: string;
  readonly bits: readonly [number, number];
  readonly access: string;
  readonly why: string | undefined;
  readonly value: bigint;
  readonly changed: boolean;
}

export interface DecodedRegister {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  readonly section: string;
  readonly value: bigint;
  /** Undefined: unchanged, or not seen before. */
  readonly before: bigint | undefined;
  readonly fields: readonly DecodedField[];
}

/** Little-endian; what lies beyond the bytes reads as zero. */
export function readLittleEndian(bytes: Uint8Array, offset: number, count: number): bigint {
  let value = 0n;
  for (let index = count - 1; index >= 0; index--) value = (value << 8n) | BigInt(bytes[offset + index] ?? 0);
  return value;
}

export function decodeRegister(
  definition: RegisterDescription,
  bytes: Uint8Array,
  before?: Uint8Array,
): DecodedRegister {
  const { name, offset, bytes: width, section } = definition;
  const value = readLittleEndian(bytes, offset, width);
  const old = before === undefined ? value : readLittleEndian(before, offset, width);
  return {
    name,
    offset,
    bytes: width,
    section,
    value,
    before: old === value ? undefined : old,
    fields: definition.fields.map(field => ({
      name: field.name,
      bits: field.bits,
      access: field.access,
      why: field.why,
      value: bitsOf(value, field.bits),
      changed: bitsOf(value, field.bits) !== bitsOf(old, field.bits),
    })),
  };
}

export function decodeBlock(
  { registers }: RegisterBlockDescription,
  bytes: Uint8Array,
  before?: Uint8Array,
): readonly DecodedRegister[] {
  return registers.map(register => decodeRegister(register, bytes, before));
}

/** `63:12`, `5`. */
export function formatBits([high, low]: readonly [number, number]): string {
  return high === low ? String(high) : `${high}:${low}`;
}
