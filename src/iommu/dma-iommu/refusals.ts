/** What a refused operation was about, as far as its arguments say: for those who look for the mistake behind it. */
import type { TraceValue } from '../../trace/trace.ts';
import type { Core } from './core.ts';
import { DmaDevice, PasidDevice } from './dma-devices.ts';
import type { OperationName } from './operations.ts';
import { isPageAligned } from './physical-pages.ts';
import { Token } from './tokens.ts';

type Detail = Readonly<Record<string, TraceValue>>;
type Loose = Readonly<Record<string, unknown>>;

const PAGE_SHIFT = 12n;

const IDENTITY: ReadonlySet<OperationName> = new Set([
  'mapIdentityRange',
  'mapIdentityRangeEx',
  'unmapIdentityRange',
  'unmapIdentityRangeEx',
]);
const ANY_64_BITS = 1n << 64n;

/**
 * `domain` and `device` (handle and requester id), `iova`, `bytes`, `pasid`: what cannot be told is left out. Arguments may be anything
 * at all.
 */
export function refusalDetail({ handles }: Core, operation: OperationName, args: unknown): Detail {
  if (typeof args !== 'object' || args === null) return {};
  const given = args as Loose;
  const detail: Record<string, TraceValue> = {};
  number(detail, 'domain', given.domain);
  number(detail, 'device', given.physicalDeviceObject);
  const pasidDevice = handles.find(given.pasidDevice as number, PasidDevice);
  if (pasidDevice !== undefined) detail.pasid = pasidDevice.pasid;
  const device = pasidDevice?.device ?? handles.find(given.dmaDevice as number, DmaDevice);
  if (device !== undefined) detail.device = device.settings.pdo;

  const physical = (given.physicalAddressToMap ?? given.mdl ?? given.mappedPhysicalAddress) as Loose | undefined;
  address(detail, 'iova', IDENTITY.has(operation) ? firstAddress(physical) : explicitAddress(given));
  address(detail, 'bytes', given.size ?? bytesOf(physical) ?? bytesOfPages(given.numberOfPages));

  const token = handles.find(given.token as number, Token);
  if (token !== undefined) {
    detail.domain = token.domain.handle;
    const start = BigInt(token.start) << PAGE_SHIFT;
    address(detail, 'iova', isPageAligned(given.offset) ? start + given.offset : start);
    if (physical === undefined) detail.bytes = BigInt(token.pages) << PAGE_SHIFT;
  }
  return detail;
}

function explicitAddress(given: Loose): unknown {
  return given.logicalAddress ?? given.explicitLogicalAddress;
}

function firstAddress(physical: Loose | undefined): unknown {
  if (physical?.type === 'contiguousRange') return physical.base;
  const pages = physical?.pages;
  return pages instanceof Int32Array && pages.length > 0 ? BigInt(pages[0]!) << PAGE_SHIFT : undefined;
}

function bytesOf(physical: Loose | undefined): unknown {
  if (physical?.type === 'contiguousRange') return physical.size;
  const pages = physical?.pages;
  return pages instanceof Int32Array ? BigInt(pages.length) << PAGE_SHIFT : undefined;
}

function bytesOfPages(pages: unknown): unknown {
  return Number.isInteger(pages) ? BigInt(pages as number) << PAGE_SHIFT : undefined;
}

function number(detail: Record<string, TraceValue>, name: string, value: unknown): void {
  if (typeof value === 'number') detail[name] = value;
}

/** What has no more than 64 bits. */
function address(detail: Record<string, TraceValue>, name: string, value: unknown): void {
  if (typeof value === 'bigint' && value >= 0n && value < ANY_64_BITS) detail[name] = value;
}
