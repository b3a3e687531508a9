/** Invalidation descriptors in words (6.5.2). */
import { address64 } from '../address64.ts';
import { DESCRIPTORS, DescriptorType, descriptorType } from './descriptors.ts';
import type { EntryReader } from './entry-reader.ts';
import { Granularity } from './invalidation.ts';

const INTERRUPT = 1 << 4;
const STATUS_WRITE = 1 << 5;
const FENCE = 1 << 6;
const LEAF_ONLY = 1 << 6;
/** Functions that a function mask leaves out of the comparison. */
const FUNCTIONS = ['', ' and one other function', ' and three other functions', ' and all its functions'] as const;

export type DescriptorWords = Pick<EntryReader, 'w0' | 'w1' | 'w2' | 'w3'>;

/** e.g. `IOTLB invalidate, page-selective, domain 3, 0xfffff000, 1 page`. */
export function describeDescriptor(words: DescriptorWords): string {
  const { w0, w1, w2, w3 } = words;
  if ((w0 | w1 | w2 | w3) === 0) return 'empty';
  const type = descriptorType(w0);
  const format = DESCRIPTORS.get(type);
  if (format === undefined) return `type ${type}, not valid here`;
  const [d0, d1, d2, d3] = format.defined;
  const isMalformed = ((w0 & ~d0) | (w1 & ~d1) | (w2 & ~d2) | (w3 & ~d3)) !== 0;
  return [format.name, ...details(type, words), ...(isMalformed ? ['reserved bits set'] : [])].join(', ');
}

function details(type: number, words: DescriptorWords): string[] {
  switch (type) {
    case DescriptorType.context:
      return contextDetails(words);
    case DescriptorType.iotlb:
      return iotlbDetails(words);
    case DescriptorType.wait:
      return waitDetails(words);
    default:
      return [];
  }
}

function contextDetails({ w0, w1 }: DescriptorWords): string[] {
  const domain = `domain ${w0 >>> 16}`;
  switch ((w0 >>> 4) & 3) {
    case Granularity.global:
      return ['global'];
    case Granularity.domain:
      return ['domain-selective', domain];
    case Granularity.selective:
      return ['device-selective', domain, `${requester(w1 & 0xffff)}${FUNCTIONS[(w1 >>> 16) & 3]}`];
    default:
      return ['reserved granularity'];
  }
}

function iotlbDetails({ w0, w2, w3 }: DescriptorWords): string[] {
  const domain = `domain ${w0 >>> 16}`;
  switch ((w0 >>> 4) & 3) {
    case Granularity.global:
      return ['global'];
    case Granularity.domain:
      return ['domain-selective', domain];
    case Granularity.selective: {
      const pages = 2 ** (w2 & 0x3f);
      const size = pages === 1 ? '1 page' : `${pages} pages`;
      const hint = (w2 & LEAF_ONLY) === 0 ? [] : ['leaf entries only'];
      return ['page-selective', domain, hex(address64(w3, w2 & ~0xfff)), size, ...hint];
    }
    default:
      return ['reserved granularity'];
  }
}

function waitDetails({ w0, w1, w2, w3 }: DescriptorWords): string[] {
  return [
    ...((w0 & STATUS_WRITE) === 0 ? [] : [`writes ${hex(BigInt(w1 >>> 0))} to ${hex(address64(w3, w2 & ~3))}`]),
    ...((w0 & INTERRUPT) === 0 ? [] : ['interrupts']),
    ...((w0 & FENCE) === 0 ? [] : ['fence']),
  ];
}

function requester(id: number): string {
  const digits = (value: number) => value.toString(16).padStart(2, '0');
  return `${digits(id >>> 8)}:${digits((id >>> 3) & 31)}.${id & 7}`;
}

function hex(value: bigint): string {
  return `0x${value.toString(16)}`;
}
