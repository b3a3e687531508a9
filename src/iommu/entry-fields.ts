/** The fields of page-table entries by the names of their specifications, for people; the walker goes by the formats alone. */

import { LeafRule, type PageTableFormat } from '../page-tables/format.ts';
import { address64 } from './address64.ts';
import type { InspectedField } from './inspection.ts';

interface EntryField {
  readonly name: string;
  readonly bits: readonly [high: number, low: number];
  /** Where it means something. Default: in every entry. */
  readonly where?: 'leaf' | 'table' | 'mayBeLarge';
}

/** VT-d, 9.8. */
const SECOND_STAGE: readonly EntryField[] = [
  { name: 'R', bits: [0, 0] },
  { name: 'W', bits: [1, 1] },
  { name: 'PS', bits: [7, 7], where: 'mayBeLarge' },
  { name: 'SNP', bits: [11, 11], where: 'leaf' },
  { name: 'ADDR', bits: [51, 12] },
  { name: 'TM', bits: [62, 62], where: 'leaf' },
];

/** VT-d, 9.7. */
const FIRST_STAGE: readonly EntryField[] = [
  { name: 'P', bits: [0, 0] },
  { name: 'R/W', bits: [1, 1] },
  { name: 'U/S', bits: [2, 2] },
  { name: 'A', bits: [5, 5] },
  { name: 'D', bits: [6, 6], where: 'leaf' },
  { name: 'PS', bits: [7, 7], where: 'mayBeLarge' },
  { name: 'ADDR', bits: [51, 12] },
  { name: 'XD', bits: [63, 63] },
];

/** Arm ARM, D8.3. */
function stage1(granuleShift: number): readonly EntryField[] {
  return [
    { name: 'VALID', bits: [0, 0] },
    { name: 'TABLE', bits: [1, 1] },
    { name: 'AP', bits: [7, 6], where: 'leaf' },
    { name: 'AF', bits: [10, 10], where: 'leaf' },
    { name: 'ADDR', bits: [47, granuleShift] },
    { name: 'APTable', bits: [62, 61], where: 'table' },
  ];
}

function fieldsOf({ name, granuleShift }: PageTableFormat): readonly EntryField[] {
  if (name === 'vtd-second-stage') return SECOND_STAGE;
  if (name === 'x64-first-level') return FIRST_STAGE;
  return name.startsWith('arm64-stage1-') ? stage1(granuleShift) : [];
}

/** An entry of a table of `level`, counted from 1. */
export class InspectedEntry {
  readonly present: boolean;
  readonly leaf: boolean;
  private readonly low: number;
  private readonly high: number;

  constructor(
    private readonly format: PageTableFormat,
    private readonly level: number,
    private readonly word: bigint,
  ) {
    this.low = Number(BigInt.asIntN(32, word));
    this.high = Number(BigInt.asIntN(32, word >> 32n));
    const { leaf, presentAll = 0 } = format.levels[level - 1]!;
    this.present = (this.low & format.presentAny) !== 0 && (this.low & presentAll) === presentAll;
    const byBit = ((this.low & format.leafBit) === 0) === (format.leafBitClear ?? false);
    this.leaf = leaf === LeafRule.always || (leaf === LeafRule.byLeafBit && byBit);
  }

  /** By name, and `reserved` with all bits that must be zero and are not. */
  get fields(): InspectedField[] {
    const { format, level, word } = this;
    const mayBeLarge = format.levels[level - 1]!.leaf === LeafRule.byLeafBit;
    const known = fieldsOf(format).filter(({ where }) => {
      if (where === undefined) return true;
      return where === 'mayBeLarge' ? mayBeLarge : (where === 'leaf') === this.leaf;
    });
    return [...known.map(({ name, bits }) => ({ name, bits, value: bitsOf(word, bits) })), ...this.reserved()];
  }

  private reserved(): InspectedField[] {
    if (!this.present) return [];
    const rule = this.format.levels[this.level - 1]!;
    const [low, high] = this.leaf ? rule.leafReserved : rule.tableReserved;
    return reservedField(address64(this.high & high, this.low & low));
  }
}

/** What is set of the bits that must be zero, as a field from the lowest to the highest of them; nothing where none is. */
export function reservedField(set: bigint): InspectedField[] {
  if (set === 0n) return [];
  const highest = set.toString(2).length - 1;
  let lowest = 0;
  while (((set >> BigInt(lowest)) & 1n) === 0n) lowest++;
  return [{ name: 'reserved', bits: [highest, lowest], value: set >> BigInt(lowest) }];
}

export function bitsOf(word: bigint, [high, low]: readonly [number, number]): bigint {
  return BigInt.asUintN(high - low + 1, word >> BigInt(low));
}
