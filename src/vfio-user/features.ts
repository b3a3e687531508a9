/** VFIO_USER_DEVICE_FEATURE and the two commands of migration data: one function each, as in commands.ts. */
import { type DmaLog, Errno } from './device-model.ts';
import type { Reply, Request } from './messages.ts';
import type { ServedClient } from './served-client.ts';
import { DeviceFeature, DmaLogging, DmaReport, Feature, MigrationData, MigrationFeature } from './spec.ts';

/** linux/vfio.h: what the kernel answers on a feature that the device does not have. */
const ENOTTY = 25;

interface FeatureHandler {
  readonly get?: (client: ServedClient, request: Request, reply: Reply) => number;
  readonly set?: (client: ServedClient, request: Request, reply: Reply) => number;
}

const features: ReadonlyMap<number, FeatureHandler> = new Map<number, FeatureHandler>([
  [Feature.migration, { get: getMigration }],
  [Feature.deviceState, { get: getState, set: setState }],
  [Feature.loggingStart, { set: startLogging }],
  [Feature.loggingStop, { set: stopLogging }],
  [Feature.loggingReport, { get: reportLogging }],
]);

/** EINVAL: methods that make no sense together, or that the feature does not have; ENOTTY: no such feature here. */
export function deviceFeature(client: ServedClient, request: Request, reply: Reply): number {
  const flags = request.u32(DeviceFeature.flags);
  const { get, set, probe, indexMask } = DeviceFeature;
  if ((flags & ~(indexMask | get | set | probe)) !== 0) return Errno.EINVAL;
  const handler = features.get(flags & indexMask);
  if (handler === undefined || !isOffered(client, flags & indexMask)) return ENOTTY;
  const wants = flags & (get | set);
  if (((wants & get) !== 0 && !handler.get) || ((wants & set) !== 0 && !handler.set)) return Errno.EINVAL;
  if (request.u32(DeviceFeature.argsz) < DeviceFeature.bytes) return Errno.EINVAL;
  if ((flags & probe) !== 0) {
    reply.setU32(DeviceFeature.argsz, DeviceFeature.bytes);
    reply.setU32(DeviceFeature.flags, flags);
    reply.length = DeviceFeature.bytes;
    return Errno.ok;
  }
  reply.setU32(DeviceFeature.flags, flags);
  if (wants === get) return handler.get!(client, request, reply);
  if (wants === set) return handler.set!(client, request, reply);
  return Errno.EINVAL;
}

/** Bytes that a report's answer takes with its request's header; for a request that is not one, little. */
export function featureReplyBytes(client: ServedClient, view: DataView, at: number, length: number): number {
  if (length < DeviceFeature.bytes + DmaReport.bytes) return DeviceFeature.bytes + DmaReport.bytes;
  const flags = view.getUint32(at + DeviceFeature.flags, true);
  // What is set comes back as it is.
  if ((flags & DeviceFeature.set) !== 0) return length;
  if ((flags & DeviceFeature.indexMask) !== Feature.loggingReport) return length;
  const count = view.getBigUint64(at + DeviceFeature.bytes + DmaReport.length, true);
  const pageSize = view.getBigUint64(at + DeviceFeature.bytes + DmaReport.pageSize, true);
  const bitmap = bitmapBytes(count, pageSize);
  const most = client.limits.maxDirtyBitmap;
  return DeviceFeature.bytes + DmaReport.bytes + (bitmap > most ? 0 : bitmap);
}

/** EINVAL: not in STOP_COPY, or more than fits into a message. */
export function migrationDataRead(client: ServedClient, request: Request, reply: Reply): number {
  const size = request.u32(MigrationData.size);
  if (client.migration === undefined) return Errno.ENOTSUP;
  if (size > client.limits.maxDataTransfer) return Errno.EINVAL;
  if (request.u32(MigrationData.argsz) < MigrationData.bytes + size) return Errno.EINVAL;
  const count = client.migration.take(reply.bytes, reply.at + MigrationData.data, size);
  if (count < 0) return Errno.EINVAL;
  reply.setU32(MigrationData.argsz, MigrationData.bytes + count);
  reply.setU32(MigrationData.size, count);
  reply.length = MigrationData.bytes + count;
  return Errno.ok;
}

/** EINVAL: not in RESUMING, or another size than the message's; E2BIG: more than a state may have. */
export function migrationDataWrite(client: ServedClient, request: Request): number {
  const size = request.u32(MigrationData.size);
  if (client.migration === undefined) return Errno.ENOTSUP;
  if (size > client.limits.maxDataTransfer || size !== request.length - MigrationData.bytes) return Errno.EINVAL;
  const at = request.at + MigrationData.data;
  return client.migration.give(request.bytes.subarray(at, at + size));
}

function isOffered(client: ServedClient, feature: number): boolean {
  if (feature === Feature.migration || feature === Feature.deviceState) return client.migration !== undefined;
  return client.model.dma.log !== undefined;
}

function getMigration(_client: ServedClient, request: Request, reply: Reply): number {
  if (!fits(request, MigrationFeature.bytes)) return Errno.EINVAL;
  reply.setU64(DeviceFeature.data + MigrationFeature.flags, BigInt(MigrationFeature.stopCopy));
  return answer(reply, MigrationFeature.bytes);
}

function getState(client: ServedClient, request: Request, reply: Reply): number {
  if (!fits(request, MigrationFeature.stateBytes)) return Errno.EINVAL;
  putState(client, reply, NO_DATA_FD);
  return answer(reply, MigrationFeature.stateBytes);
}

function setState(client: ServedClient, request: Request, reply: Reply): number {
  if (request.length < DeviceFeature.bytes + MigrationFeature.stateBytes) return Errno.EINVAL;
  if (!fits(request, MigrationFeature.stateBytes)) return Errno.EINVAL;
  const flags = request.u32(DeviceFeature.flags);
  const target = request.u32(DeviceFeature.data + MigrationFeature.state);
  // Unused, but the answer to SET is its request.
  const dataFd = request.u32(DeviceFeature.data + MigrationFeature.dataFd);
  return client.answerWhen(
    done => client.migration!.change(target, done),
    () => {
      reply.setU32(DeviceFeature.flags, flags);
      putState(client, reply, dataFd);
      answer(reply, MigrationFeature.stateBytes);
    },
  );
}

/** linux/vfio.h has -1 where there is no file. */
const NO_DATA_FD = -1;

function putState(client: ServedClient, reply: Reply, dataFd: number): void {
  reply.setU32(DeviceFeature.data + MigrationFeature.state, client.migration!.state);
  reply.setU32(DeviceFeature.data + MigrationFeature.dataFd, dataFd);
}

function startLogging(client: ServedClient, request: Request, reply: Reply): number {
  const at = DeviceFeature.data;
  if (request.length < at + DmaLogging.bytes) return Errno.EINVAL;
  const asked = request.u64(at + DmaLogging.pageSize);
  const count = request.u32(at + DmaLogging.rangeCount);
  if (!isPowerOfTwo(asked) || count > client.limits.maxLoggedRanges) return Errno.EINVAL;
  const length = DmaLogging.bytes + count * DmaLogging.rangeBytes;
  if (request.length < at + length) return Errno.EINVAL;
  const ranges = Array.from({ length: count }, (_, index) => {
    const range = at + DmaLogging.bytes + index * DmaLogging.rangeBytes;
    return { address: request.u64(range), length: request.u64(range + 8) };
  });
  if (ranges.some(range => !isRange(range.address, range.length))) return Errno.EINVAL;
  log(client).start(ranges);
  reply.bytes.set(request.bytes.subarray(request.at + at, request.at + at + length), reply.at + at);
  reply.setU64(at + DmaLogging.pageSize, asked < SMALLEST_PAGE ? SMALLEST_PAGE : asked);
  return answer(reply, length);
}

function stopLogging(client: ServedClient, _request: Request, reply: Reply): number {
  log(client).stop();
  return answer(reply, 0);
}

function reportLogging(client: ServedClient, request: Request, reply: Reply): number {
  const at = DeviceFeature.data;
  if (request.length < at + DmaReport.bytes) return Errno.EINVAL;
  const address = request.u64(at + DmaReport.address);
  const length = request.u64(at + DmaReport.length);
  const pageSize = request.u64(at + DmaReport.pageSize);
  if (!isPowerOfTwo(pageSize) || !isRange(address, length) || !log(client).active) return Errno.EINVAL;
  const bytes = bitmapBytes(length, pageSize);
  if (bytes > client.limits.maxDirtyBitmap || !fits(request, DmaReport.bytes + bytes)) return Errno.EINVAL;
  reply.setU64(at + DmaReport.address, address);
  reply.setU64(at + DmaReport.length, length);
  reply.setU64(at + DmaReport.pageSize, pageSize);
  const bitmap = reply.at + at + DmaReport.bytes;
  log(client).report(address, length, pageSize, reply.bytes.subarray(bitmap, bitmap + bytes).fill(0));
  return answer(reply, DmaReport.bytes + bytes);
}

/** The pages of our memory; smaller ones are not told apart. */
const SMALLEST_PAGE = 4096n;
const ADDRESS_SPACE = 1n << 64n;

function log(client: ServedClient): DmaLog {
  return client.model.dma.log!;
}

function isPowerOfTwo(value: bigint): boolean {
  return value > 0n && (value & (value - 1n)) === 0n;
}

function isRange(address: bigint, length: bigint): boolean {
  return length > 0n && address + length <= ADDRESS_SPACE;
}

/** Bytes of a bitmap with a bit for each page of the range: whole 64-bit words. Infinity where there is no such page. */
function bitmapBytes(length: bigint, pageSize: bigint): number {
  if (pageSize === 0n) return Number.POSITIVE_INFINITY;
  const pages = (length + pageSize - 1n) / pageSize;
  return Number((pages + 63n) / 64n) * 8;
}

/** Whether the client has room for an answer with so many bytes of data. */
function fits(request: Request, dataBytes: number): boolean {
  return request.u32(DeviceFeature.argsz) >= DeviceFeature.bytes + dataBytes;
}

function answer(reply: Reply, dataBytes: number): number {
  reply.setU32(DeviceFeature.argsz, DeviceFeature.bytes + dataBytes);
  reply.length = DeviceFeature.bytes + dataBytes;
  return Errno.ok;
}
