/** Register accesses in words: the register, and what its fields were or became. */
import { Kind } from '../trace/event-kinds.ts';
import type { PayloadWords } from '../trace/record-fields.ts';
import { CONFIG_REGION, type DecodedField, type DecodedRegister, type RegisterMap } from './recording-registers.ts';

/** Fields from this width on that do not begin at bit 0 are addresses, and shown in their place. */
const ADDRESS_FIELD_BITS = 20;
/** Up to here a value is shown as a decimal number. */
const DECIMAL_BITS = 8;
/** Registers whose last values are remembered; a file of any number of sources must not fill memory. */
const MAX_REMEMBERED = 4096;

export interface DecodedAccess {
  readonly access: 'read' | 'write';
  /** `bar0`, `config`. */
  readonly region: string;
  readonly offset: number;
  /** Bytes; 0: a bulk access. */
  readonly width: number;
  readonly value: bigint;
  readonly registers: readonly { readonly name: string; readonly fields: Readonly<Record<string, bigint>> }[];
}

export function isRegisterAccess(kind: number): boolean {
  return kind === Kind['register.read'] || kind === Kind['register.write'];
}

/** Remembers what registers held, so that a field that becomes zero is told. */
export class AccessDecoder {
  private readonly last = new Map<string, bigint>();

  constructor(private readonly map: RegisterMap) {}

  decode(kind: number, source: string, payload: PayloadWords): DecodedAccess {
    const access = kind === Kind['register.write'] ? 'write' : 'read';
    const region = payload.word(0) & 0xf;
    const width = (payload.word(0) >>> 4) & 0xf;
    const offset = payload.word(1) >>> 0;
    const value = (BigInt(payload.word(2) >>> 0) << 32n) | BigInt(payload.word(3) >>> 0);
    const registers = this.map.find(source, region, offset, width).map(register => {
      const part = partOf(register, offset, width, value);
      const fields = this.fieldsOf(`${access} ${source} ${region} ${register.offset}`, register, part);
      return { name: register.name, fields };
    });
    return { access, region: nameOfRegion(region), offset, width, value, registers };
  }

  private fieldsOf(key: string, register: DecodedRegister, { mask, bits }: Part): Record<string, bigint> {
    const before = this.last.get(key) ?? 0n;
    if (this.last.has(key) || this.last.size < MAX_REMEMBERED) this.last.set(key, (before & ~mask) | bits);
    const told: Record<string, bigint> = {};
    for (const field of register.fields) {
      if ((maskOf(field) & mask) === 0n) continue;
      const value = inField(field, (before & ~mask) | bits);
      if (value !== 0n || value !== inField(field, before) || field.whole) told[field.name] = value;
    }
    return told;
  }
}

/** `write GCMD TE=1`, `read config status capabilityList=1`, `write bar0+0x5c 0x1 (4 bytes)`. */
export function formatAccess({ access, region, offset, width, value, registers }: DecodedAccess): string {
  const place = `${region}+0x${offset.toString(16)}`;
  if (width === 0) return `${access} ${place} (bulk)`;
  if (registers.length === 0) return `${access} ${place} 0x${value.toString(16)} (${width} bytes)`;
  const words = registers.map(({ name, fields }) => {
    const [only] = Object.entries(fields);
    if (only === undefined) return `${name} 0`;
    if (only[0].toLowerCase() === 'value') return `${name}=${formatNumber(only[1])}`;
    return [name, ...Object.entries(fields).map(([field, one]) => `${field}=${formatNumber(one)}`)].join(' ');
  });
  return [access, ...(region === 'config' ? [region] : []), ...words].join(' ');
}

interface Part {
  /** Which bits of the register were accessed, and what they are, both in their place. */
  readonly mask: bigint;
  readonly bits: bigint;
}

function partOf(register: DecodedRegister, offset: number, width: number, value: bigint): Part {
  const whole = (1n << BigInt(register.bytes * 8)) - 1n;
  const shift = BigInt(offset - register.offset) * 8n;
  const ones = (1n << BigInt(width * 8)) - 1n;
  return { mask: shifted(ones, shift) & whole, bits: shifted(value & ones, shift) & whole };
}

function shifted(value: bigint, by: bigint): bigint {
  return by < 0n ? value >> -by : value << by;
}

function maskOf({ high, low }: DecodedField): bigint {
  return ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

function inField(field: DecodedField, register: bigint): bigint {
  const inPlace = register & maskOf(field);
  const isAddress = field.low > 0 && field.high - field.low + 1 >= ADDRESS_FIELD_BITS;
  return isAddress ? inPlace : inPlace >> BigInt(field.low);
}

function formatNumber(value: bigint): string {
  return value < 1n << BigInt(DECIMAL_BITS) ? String(value) : `0x${value.toString(16)}`;
}

function nameOfRegion(region: number): string {
  return region === CONFIG_REGION ? 'config' : `bar${region}`;
}
