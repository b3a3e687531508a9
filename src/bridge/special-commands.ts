/** The commands of QEMU that concern this host's memory and the agreement about descriptors. */
import { FRAME_BYTES } from '../memory/guest-memory.ts';
import { closeDescriptor } from '../posix/socket.ts';
import { Errno } from '../vfio-user/device-model.ts';
import { readAddress, readDmaMapFlags, withoutMode } from '../vfio-user/dma-map-payload.ts';
import type { Header } from '../vfio-user/header.ts';
import { Command, DmaMap, DmaUnmap, Version } from '../vfio-user/spec.ts';
import { parseVersion, VersionError } from '../vfio-user/version.ts';
import { isPosted, passOn } from './pass-on.ts';
import type { Relay } from './relay.ts';
import type { Pages, Settlement } from './requests.ts';

type Descriptors = readonly number[];

/** There is nothing to do when the answer comes; until then no other such command goes out. */
const NOTHING_TO_SETTLE: Settlement = { settle() {} };
const EVERYTHING: Pages = { firstFrame: 0, frames: Number.POSITIVE_INFINITY };

export function version(relay: Relay, header: Header, payload: number, length: number, descriptors: Descriptors): void {
  for (const descriptor of descriptors) closeDescriptor(descriptor);
  if (relay.proposal !== undefined || descriptors.length > 0 || isPosted(header)) {
    const why = relay.proposal !== undefined ? 'second VERSION' : 'VERSION with descriptors, or without a reply';
    relay.end('handshake failed', { why });
    return;
  }
  try {
    const { capabilities } = parseVersion(relay.qemu.input, payload, length, relay.limits);
    relay.proposal = { capabilities, dataBytes: length - Version.bytes };
  } catch (error) {
    if (!(error instanceof VersionError)) throw error;
    relay.end('handshake failed', { why: error.message });
    return;
  }
  relay.requests.add(header.id, Command.version, NOTHING_TO_SETTLE);
  passOn(relay.qemu, payload, length, relay.server);
}

/** The region is here before the server knows of it, and goes again where the server does not want it. */
export function dmaMap(relay: Relay, header: Header, payload: number, length: number, descriptors: Descriptors): void {
  const { qemu, memory } = relay;
  const view = qemu.inputView;
  const flags = length < DmaMap.bytes ? 0 : view.getUint32(payload + DmaMap.flags, true);
  const meaning = readDmaMapFlags(flags, descriptors.length > 0);
  if (!meaning || view.getUint32(payload + DmaMap.argsz, true) < DmaMap.bytes || descriptors.length > 1) {
    relay.refuse(header, Errno.EINVAL, descriptors);
    return;
  }
  const address = readAddress(view, payload + DmaMap.address);
  const size = readAddress(view, payload + DmaMap.size);
  const errno = memory.map({
    address,
    size,
    offset: readAddress(view, payload + DmaMap.offset),
    descriptor: descriptors[0] ?? -1,
    ...meaning,
  });
  if (errno !== Errno.ok) {
    relay.refuse(header, errno, []);
    return;
  }
  if (!isPosted(header)) {
    relay.requests.add(header.id, Command.dmaMap, {
      settle(refused) {
        if (refused !== Errno.ok) memory.unmap(address, size);
      },
    });
  }
  // The descriptor stays here, and with it the way in which it is used.
  view.setUint32(payload + DmaMap.flags, withoutMode(flags), true);
  passOn(qemu, payload, length, relay.server);
}

/** The region stays here until the server has let it go: what it does until then is in its right. */
export function dmaUnmap(
  relay: Relay,
  header: Header,
  payload: number,
  length: number,
  descriptors: Descriptors,
): void {
  const { qemu, memory } = relay;
  if (length < DmaUnmap.bytes || descriptors.length > 0) {
    relay.refuse(header, Errno.EINVAL, descriptors);
    return;
  }
  const view = qemu.inputView;
  const all = (view.getUint32(payload + DmaUnmap.flags, true) & DmaUnmap.all) !== 0;
  const address = readAddress(view, payload + DmaUnmap.address);
  const size = readAddress(view, payload + DmaUnmap.size);
  const pages = all ? EVERYTHING : { firstFrame: frameOf(address), frames: frameOf(size) };
  const unmap = () => {
    if (all) memory.unmapAll();
    else memory.unmap(address, size);
    relay.client.unmapped(pages.firstFrame, pages.frames);
  };
  if (!isPosted(header)) {
    relay.requests.add(header.id, Command.dmaUnmap, {
      pages,
      settle(refused) {
        if (refused === Errno.ok) unmap();
      },
    });
  }
  passOn(qemu, payload, length, relay.server);
  // Nobody will say when the server has done it.
  if (isPosted(header)) unmap();
}

function frameOf(address: number): number {
  return Math.floor(address / FRAME_BYTES);
}
