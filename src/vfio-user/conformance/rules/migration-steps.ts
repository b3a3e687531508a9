/** What the rules of migration and of DMA logging have in common. */
import { Command, DeviceFeature, Feature, MigrationData } from '../../spec.ts';
import type { Context } from '../context.ts';
import type { Peer, Received } from '../peer.ts';
import { isFailed } from '../peer.ts';
import { equal, isTrue, notOffered } from '../rule.ts';
import { concat, NOTHING, viewOf, words } from '../wire.ts';

const { deviceFeature, deviceReset, migrationDataRead, migrationDataWrite } = Command;
export const { get: GET, set: SET, probe: PROBE } = DeviceFeature;
/** Section "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE". */
export const State = { error: 0, stop: 1, running: 2, stopCopy: 3, resuming: 4, preCopy: 6 } as const;
export const PRE_COPY_BIT = 4n;
const STATE_NAMES = ['ERROR', 'STOP', 'RUNNING', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P', 'PRE_COPY', 'PRE_COPY_P2P'];
/** A state that is still not at its end after so many pieces is not looked at further. */
export const MOST_PIECES = 4096;

/** The bits of VFIO_DEVICE_FEATURE_MIGRATION, or nothing where the server has no migration. */
export function migrationBits(peer: Peer): bigint | undefined {
  const { error, payload } = peer.ask(deviceFeature, words(16, Feature.migration | GET, 0, 0));
  return error === 0 && payload.length >= 16 ? viewOf(payload).getBigUint64(8, true) : undefined;
}

/** Does it with a device that can be saved, which runs again afterwards; skips the rule where there is none. */
export function migrating(context: Context, work: (peer: Peer, bits: bigint) => void): void {
  const peer = context.session();
  const bits = migrationBits(peer) ?? notOffered('migration');
  try {
    work(peer, bits);
  } finally {
    runAgain(peer);
  }
  peer.alive();
}

/** A server may keep the state for the next client, for whom it would be no device that runs. */
function runAgain(peer: Peer): void {
  if (peer.ended) return;
  if (isFailed(askState(peer, State.running)) && !peer.ended) peer.ask(deviceReset, NOTHING);
}

export function stateRequest(state: number): Uint8Array {
  return words(16, Feature.deviceState | SET, state, 0);
}

export function askState(peer: Peer, state: number): Received {
  return peer.ask(deviceFeature, stateRequest(state));
}

/** It must go there, and say so. */
export function enter(peer: Peer, ...states: readonly number[]): void {
  for (const state of states) {
    peer.succeed(deviceFeature, stateRequest(state));
    isIn(peer, state);
  }
}

export function isIn(peer: Peer, state: number): void {
  equal(stateName(readState(peer)), stateName(state), 'the state of the device');
}

export function readState(peer: Peer): number {
  const { payload } = peer.succeed(deviceFeature, words(16, Feature.deviceState | GET, 0, 0));
  return viewOf(payload).getUint32(8, true);
}

export function refuseState(peer: Peer, state: number): void {
  peer.refuse(deviceFeature, stateRequest(state), `the state ${stateName(state)}`);
}

function stateName(state: number): string {
  return STATE_NAMES[state] ?? String(state);
}

/** The reply with one piece of the state. */
export function askPiece(peer: Peer, size: number): Uint8Array {
  return peer.succeed(migrationDataRead, words(MigrationData.bytes + size, size)).payload;
}

/** One piece of the state: as much as the reply says, which may hold more. */
export function readPiece(peer: Peer, size: number): Uint8Array {
  const payload = askPiece(peer, size);
  const count = viewOf(payload).getUint32(MigrationData.size, true);
  isTrue(count <= size, `${count} bytes came where ${size} were asked for`);
  isTrue(payload.length >= MigrationData.bytes + count, `${payload.length} bytes hold no ${count} bytes of state`);
  return payload.subarray(MigrationData.data, MigrationData.data + count);
}

/** The whole state of a device in STOP_COPY. */
export function readWhole(peer: Peer, size: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let i = 0; i < MOST_PIECES; i++) {
    const piece = readPiece(peer, size);
    pieces.push(piece);
    if (piece.length < size) break;
  }
  return concat(...pieces);
}

export function writePiece(peer: Peer, data: Uint8Array): void {
  const payload = concat(words(MigrationData.bytes + data.length, data.length), data);
  equal(peer.succeed(migrationDataWrite, payload).payload.length, 0, 'bytes of the reply to a write');
}
