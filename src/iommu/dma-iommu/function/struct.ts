/** Layouts of little-endian structures in guest memory, as data: placed by the rules of C, where every field is aligned to its size. */

const SCALAR_BYTES = { u8: 1, u16: 2, u32: 4, i32: 4, u64: 8 } as const;
export type Scalar = keyof typeof SCALAR_BYTES;

/** So many bytes, which mean something else each time. */
export interface Bytes {
  readonly bytes: number;
  readonly align: number;
}

export type Kind = Scalar | Bytes | StructLayout;

export interface FieldLayout {
  readonly offset: number;
  readonly bytes: number;
  readonly kind: Kind;
}

export interface StructLayout<Name extends string = string> extends Bytes {
  readonly fields: { readonly [Field in Name]: FieldLayout };
}

/** Places the fields in the order given. */
export function struct<Name extends string>(kinds: { readonly [Field in Name]: Kind }): StructLayout<Name> {
  const fields = {} as { [Field in Name]: FieldLayout };
  let offset = 0;
  let align = 1;
  for (const name of Object.keys(kinds) as Name[]) {
    const kind: Kind = kinds[name];
    const bytes = typeof kind === 'string' ? SCALAR_BYTES[kind] : kind.bytes;
    const own = typeof kind === 'string' ? bytes : kind.align;
    offset = roundUp(offset, own);
    fields[name] = { offset, bytes, kind };
    offset += bytes;
    align = Math.max(align, own);
  }
  return { bytes: roundUp(offset, align), align, fields };
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}

/** `mapLogicalRangeEx` is `map_logical_range_ex` in C. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
}

/** Bytes that are read and written by fields. */
export class Entry {
  readonly bytes: Uint8Array;
  readonly words: Int32Array;
  private readonly view: DataView;

  /** A multiple of 4 bytes. */
  constructor(bytes: number) {
    this.bytes = new Uint8Array(bytes);
    this.words = new Int32Array(this.bytes.buffer);
    this.view = new DataView(this.bytes.buffer);
  }

  /** A field of up to 32 bits, unsigned; `at` is where its structure starts. */
  get(field: FieldLayout, at = 0): number {
    const offset = at + field.offset;
    if (field.bytes === 4) return this.view.getUint32(offset, true);
    return field.bytes === 2 ? this.view.getUint16(offset, true) : this.view.getUint8(offset);
  }

  get64(field: FieldLayout, at = 0): bigint {
    return this.view.getBigUint64(at + field.offset, true);
  }

  set(field: FieldLayout, value: number, at = 0): void {
    const offset = at + field.offset;
    if (field.bytes === 4) this.view.setUint32(offset, value, true);
    else if (field.bytes === 2) this.view.setUint16(offset, value, true);
    else this.view.setUint8(offset, value);
  }

  set64(field: FieldLayout, value: bigint, at = 0): void {
    this.view.setBigUint64(at + field.offset, value, true);
  }
}
