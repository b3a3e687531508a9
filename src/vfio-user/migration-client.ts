/** The commands of migration, as a client gives them: to drive a device without a guest, and for tests. */
import { type VfioUserClient, VfioUserError } from './client.ts';
import type { LoggedRange } from './device-model.ts';
import {
  Command,
  commandName,
  DeviceFeature,
  DmaLogging,
  DmaReport,
  Feature,
  MigrationData,
  MigrationFeature,
} from './spec.ts';

/** Bytes asked for at a time where nobody says how many. */
const PIECE_BYTES = 65_536;

export class MigrationClient {
  constructor(private readonly client: VfioUserClient) {}

  /** Whether the device has the feature with all the methods (`DeviceFeature.get`, `set`). */
  probe(feature: number, methods = 0): boolean {
    return this.ask(feature, DeviceFeature.probe | methods, new Uint8Array(0), 0).errno === 0;
  }

  /** The bits of VFIO_DEVICE_FEATURE_MIGRATION. */
  flags(): bigint {
    return viewOf(this.get(Feature.migration, MigrationFeature.bytes)).getBigUint64(MigrationFeature.flags, true);
  }

  /** See `MigrationState`. */
  state(): number {
    return viewOf(this.get(Feature.deviceState, MigrationFeature.stateBytes)).getUint32(MigrationFeature.state, true);
  }

  /** Waits until the device is there. Throws a VfioUserError. */
  setState(state: number): void {
    const data = new Uint8Array(MigrationFeature.stateBytes);
    viewOf(data).setUint32(MigrationFeature.state, state, true);
    this.set(Feature.deviceState, data);
  }

  /** The next bytes of the state; fewer than `size`: that was all. Throws a VfioUserError. */
  read(size: number): Uint8Array {
    const payload = new Uint8Array(MigrationData.bytes);
    viewOf(payload).setUint32(MigrationData.argsz, MigrationData.bytes + size, true);
    viewOf(payload).setUint32(MigrationData.size, size, true);
    const { errno, payload: answer } = this.client.request(Command.migrationDataRead, payload);
    if (errno !== 0) throw new VfioUserError(commandName(Command.migrationDataRead), errno);
    return answer.subarray(MigrationData.data);
  }

  /** The whole state, in pieces of so many bytes. */
  readAll(piece = PIECE_BYTES): Uint8Array {
    const pieces: Uint8Array[] = [];
    let length = 0;
    for (let last = piece; last === piece; ) {
      const bytes = this.read(piece);
      pieces.push(bytes);
      last = bytes.length;
      length += last;
    }
    const state = new Uint8Array(length);
    let at = 0;
    for (const bytes of pieces) {
      state.set(bytes, at);
      at += bytes.length;
    }
    return state;
  }

  /** More of a state. Throws a VfioUserError. */
  write(bytes: Uint8Array): void {
    const payload = new Uint8Array(MigrationData.bytes + bytes.length);
    viewOf(payload).setUint32(MigrationData.argsz, payload.length, true);
    viewOf(payload).setUint32(MigrationData.size, bytes.length, true);
    payload.set(bytes, MigrationData.data);
    const { errno } = this.client.request(Command.migrationDataWrite, payload);
    if (errno !== 0) throw new VfioUserError(commandName(Command.migrationDataWrite), errno);
  }

  /** A whole state, in pieces of so many bytes. */
  writeAll(state: Uint8Array, piece = PIECE_BYTES): void {
    for (let at = 0; at < state.length; at += piece) this.write(state.subarray(at, at + piece));
  }

  /** Returns the page size that the device chose. Throws a VfioUserError. */
  startLogging(pageSize: bigint, ranges: readonly LoggedRange[] = []): bigint {
    const data = new Uint8Array(DmaLogging.bytes + ranges.length * DmaLogging.rangeBytes);
    const view = viewOf(data);
    view.setBigUint64(DmaLogging.pageSize, pageSize, true);
    view.setUint32(DmaLogging.rangeCount, ranges.length, true);
    ranges.forEach(({ address, length }, index) => {
      view.setBigUint64(DmaLogging.bytes + index * DmaLogging.rangeBytes, address, true);
      view.setBigUint64(DmaLogging.bytes + index * DmaLogging.rangeBytes + 8, length, true);
    });
    return viewOf(this.set(Feature.loggingStart, data)).getBigUint64(DmaLogging.pageSize, true);
  }

  stopLogging(): void {
    this.set(Feature.loggingStop, new Uint8Array(0));
  }

  /** The bitmap: whole 64-bit words. Throws a VfioUserError. */
  reportLogging(address: bigint, length: bigint, pageSize: bigint): Uint8Array {
    const data = new Uint8Array(DmaReport.bytes);
    const view = viewOf(data);
    view.setBigUint64(DmaReport.address, address, true);
    view.setBigUint64(DmaReport.length, length, true);
    view.setBigUint64(DmaReport.pageSize, pageSize, true);
    const bits = (length + pageSize - 1n) / pageSize;
    const bitmap = Number((bits + 63n) / 64n) * 8;
    return this.get(Feature.loggingReport, DmaReport.bytes + bitmap, data).subarray(DmaReport.bytes);
  }

  private get(feature: number, room: number, data = new Uint8Array(0)): Uint8Array {
    return this.orThrow(this.ask(feature, DeviceFeature.get, data, room));
  }

  private set(feature: number, data: Uint8Array): Uint8Array {
    return this.orThrow(this.ask(feature, DeviceFeature.set, data, data.length));
  }

  private ask(feature: number, methods: number, data: Uint8Array, room: number) {
    const payload = new Uint8Array(DeviceFeature.bytes + data.length);
    viewOf(payload).setUint32(DeviceFeature.argsz, DeviceFeature.bytes + room, true);
    viewOf(payload).setUint32(DeviceFeature.flags, feature | methods, true);
    payload.set(data, DeviceFeature.data);
    return this.client.request(Command.deviceFeature, payload);
  }

  private orThrow({ errno, payload }: { errno: number; payload: Uint8Array }): Uint8Array {
    if (errno !== 0) throw new VfioUserError(commandName(Command.deviceFeature), errno);
    return payload.subarray(DeviceFeature.data);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
