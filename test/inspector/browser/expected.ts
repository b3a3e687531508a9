/** What the page must say of a machine's answers, told a second time, from the answers alone. */
import type { RegisterDescription, TlbEntry } from '../../../src/machine/inspection.ts';
import { EVENT_KINDS, type EventClassName } from '../../../src/trace/event-kinds.ts';
import type { JsonRecord } from '../../../src/trace/record-format.ts';
import type { LiveMapping } from '../../../src/trace/sanitizer/sanitizer.ts';

const PAGE = 4096n;
const UNITS = ['B', 'KiB', 'MiB', 'GiB'];
const PERMISSIONS = ['--', 'r-', '-w', 'rw'];
const NOT_PRESENT = 4;
const EDU_COMMAND = 0x98;

export function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}

/** Powers of 1024, with one place where they are not whole. */
export function bytesText(bytes: number): string {
  const unit = Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10)));
  const value = bytes / 1024 ** unit;
  return `${Number.isInteger(value) ? value : value.toFixed(1).replace(/\.0$/, '')} ${UNITS[unit]}`;
}

/** from, to, size, allows, leads to: in the order of the addresses. */
export function mappingRows(mappings: readonly LiveMapping[], domain: number): string[][] {
  return mappings
    .filter(mapping => mapping.domain === domain)
    .sort((one, other) => (one.iova < other.iova ? -1 : 1))
    .map(({ iova, pages, permissions, frame }) => [
      hex(iova),
      hex(iova + BigInt(pages) * PAGE - 1n),
      bytesText(pages * 4096),
      PERMISSIONS[permissions & 3]!,
      frame < 0 ? 'scattered' : hex(BigInt(frame) * PAGE),
    ]);
}

/** Value of each register of a block, by its name. */
export function registerValues(
  registers: readonly RegisterDescription[],
  bytes: Uint8Array,
): Readonly<Record<string, string>> {
  const readValue = ({ offset, bytes: width }: RegisterDescription) =>
    bytes.subarray(offset, offset + width).reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  return Object.fromEntries(registers.map(one => [`register-${one.name}`, hex(readValue(one))]));
}

/** domain, IOVA, leads to, page, allows. */
export function tlbRows(entries: readonly TlbEntry[]): string[][] {
  return [...entries]
    .sort((one, other) => one.domain - other.domain || (one.iova < other.iova ? -1 : 1))
    .map(({ domain, iova, address, shift, permissions }) => {
      const isPresent = (permissions & NOT_PRESENT) === 0;
      return [
        String(domain),
        hex(iova),
        isPresent ? hex(address) : '–',
        bytesText(2 ** shift),
        isPresent ? PERMISSIONS[permissions & 3]! : '○ remembered: nothing was there',
      ];
    });
}

export function classOf({ kind }: JsonRecord): EventClassName | undefined {
  return EVENT_KINDS.find(({ name }) => name === kind)?.class;
}

/** The write by which an edu device begins a transfer: bit 0 of its command register. */
export function isDoorbell({ kind, source, detail }: JsonRecord): boolean {
  const { offset, value } = detail as Detail;
  return (
    kind === 'register.write' && source.startsWith('edu') && Number(offset) === EDU_COMMAND && (Number(value) & 1) === 1
  );
}

type Detail = Readonly<Record<string, string | number | undefined>>;

/** Is about this device, or by it. */
export function isOfDevice({ source, detail }: JsonRecord, name: string, requesterId: string): boolean {
  const { requesterId: own, for: other } = detail as Detail;
  return source === name || own === requesterId || other === requesterId;
}

/** A transfer that touches the range, both ends included. */
export function touches({ detail }: JsonRecord, first: bigint, last: bigint): boolean {
  const { iova, length } = detail as Detail;
  if (iova === undefined || length === undefined) return false;
  return BigInt(iova) <= last && BigInt(iova) + BigInt(length) - 1n >= first;
}

/** Which of two lists' first difference it is, so that a failure tells that and not everything; undefined: none. */
export function firstDifference(ours: readonly unknown[], theirs: readonly unknown[]): string | undefined {
  const length = Math.max(ours.length, theirs.length);
  for (let n = 0; n < length; n++) {
    const [one, other] = [JSON.stringify(ours[n]), JSON.stringify(theirs[n])];
    if (one !== other) return `at ${n} of ${ours.length} and ${theirs.length}: ${one} is not ${other}`;
  }
  return undefined;
}
