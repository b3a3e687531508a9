/** What the rules of this section have in common. */
import { Command, RegionInfo } from '../../spec.ts';
import { CONFIG, type Context, type RegionFacts, read, SCRATCH, write } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal, equalBytes } from '../rule.ts';
import { accessPayload } from '../wire.ts';

const { regionRead, regionWrite } = Command;
export const TOP = (1n << 64n) - 1n;
/** Trying a larger transfer takes too long. */
export const TRIED_TRANSFER = 16 * 1048576;

export function readable(region: RegionFacts): boolean {
  return region.size > 0n && (region.flags & RegionInfo.read) !== 0;
}

export function configSize(context: Context): number {
  return Number(context.device.regions[CONFIG]!.size);
}

export function refuseRead(peer: Peer, region: number, offset: number | bigint, count: number, why: string): void {
  peer.refuse(regionRead, accessPayload(region, offset, count), why);
  peer.alive();
}

export function refuseWrite(peer: Peer, region: number, offset: number | bigint, data: Uint8Array, why: string): void {
  peer.refuse(regionWrite, accessPayload(region, offset, data.length, data), why);
  peer.alive();
}

/** A read of this width gives what reads of one byte give. */
export function readsLikeBytes(context: Context, offset: number, width: number): void {
  const peer = context.session();
  const whole = read(peer, CONFIG, offset, width);
  const single = Array.from({ length: width }, (_, i) => read(peer, CONFIG, offset + i, 1)[0]!);
  equalBytes(whole, Uint8Array.from(single), `${width} bytes at ${offset} of the configuration space`);
}

/** A write of this width that holds the Interrupt Line register writes it. */
export function writesScratch(context: Context, offset: number, width: number): void {
  const peer = context.session();
  context.scratch(peer);
  const data = read(peer, CONFIG, offset, width).slice();
  data[SCRATCH - offset] = 0xa5;
  write(peer, CONFIG, offset, data);
  equal(read(peer, CONFIG, SCRATCH, 1)[0], 0xa5, 'the register');
}
