/** DEVICE_SET_IRQS: eventfds stay here, and the server is told which vectors have one (the messages profile of vfio-user/spec.ts). */
import { SystemError } from '../posix/errors.ts';
import { isEventFd } from '../posix/eventfd.ts';
import { Errno } from '../vfio-user/device-model.ts';
import { type Header, writeHeader } from '../vfio-user/header.ts';
import { Command, HEADER_BYTES, HeaderFlag, IrqSet, NO_TRIGGER } from '../vfio-user/spec.ts';
import { type Change, NO_CHANGE } from './eventfd-bindings.ts';
import { INTERRUPT_INDEXES, MAX_VECTORS } from './limits.ts';
import { isPosted, passOn } from './pass-on.ts';
import type { Relay } from './relay.ts';

const CLEARS = IrqSet.dataNone | IrqSet.actionTrigger;
const POSTED = HeaderFlag.typeCommand | HeaderFlag.noReply;
const MESSAGE_BYTES = HEADER_BYTES + IrqSet.bytes;

export function setIrqs(
  relay: Relay,
  header: Header,
  payload: number,
  length: number,
  descriptors: readonly number[],
): void {
  const { qemu, eventfds } = relay;
  if (length < IrqSet.bytes) {
    relay.refuse(header, Errno.EINVAL, descriptors);
    return;
  }
  const view = qemu.inputView;
  const flags = view.getUint32(payload + IrqSet.flags, true);
  const index = view.getUint32(payload + IrqSet.index, true);
  const start = view.getUint32(payload + IrqSet.start, true);
  const count = view.getUint32(payload + IrqSet.count, true);
  if ((flags & IrqSet.dataEventfd) === 0) {
    if (descriptors.length > 0) {
      relay.refuse(header, Errno.EINVAL, descriptors);
      return;
    }
    const clears = flags === CLEARS && count === 0;
    settleLater(relay, header, clears ? eventfds.clear(index) : NO_CHANGE);
    passOn(qemu, payload, length, relay.server);
    return;
  }
  const action = flags & ~IrqSet.dataEventfd;
  const inRange = index < INTERRUPT_INDEXES && count > 0 && start + count <= MAX_VECTORS;
  const complete = descriptors.length === 0 || descriptors.length === count;
  // Eight bytes written into anything but an eventfd could change it, or block for good.
  if (!isAction(action) || !inRange || !complete || !descriptors.every(isEventFd)) {
    relay.refuse(header, Errno.EINVAL, descriptors);
    return;
  }
  let change: Change;
  try {
    change = eventfds.bind(action, index, start, count, descriptors);
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    relay.refuse(header, error.errno, []);
    return;
  }
  settleLater(relay, header, change);
  sendBound(relay, header, payload, count, descriptors.length > 0);
}

/** QEMU has signalled an eventfd that masks or unmasks. False: there is no room now. */
export function sendAction(relay: Relay, action: number, index: number, vector: number): boolean {
  const { server } = relay;
  if (!server.drained) return false;
  const at = server.reserve(MESSAGE_BYTES);
  if (at < 0) return false;
  const { outputView: view } = server;
  const payload = at + HEADER_BYTES;
  writeHeader(view, at, 0, Command.deviceSetIrqs, MESSAGE_BYTES, POSTED, 0);
  view.setUint32(payload + IrqSet.argsz, IrqSet.bytes, true);
  view.setUint32(payload + IrqSet.flags, IrqSet.dataNone | action, true);
  view.setUint32(payload + IrqSet.index, index, true);
  view.setUint32(payload + IrqSet.start, vector, true);
  view.setUint32(payload + IrqSet.count, 1, true);
  server.commit(MESSAGE_BYTES);
  return true;
}

/** New ones are in place before the server answers, and old ones stay until then: an interrupt may come before its answer. */
function settleLater(relay: Relay, header: Header, change: Change): void {
  const { eventfds, requests } = relay;
  if (isPosted(header)) {
    eventfds.confirm(change);
    return;
  }
  requests.add(header.id, Command.deviceSetIrqs, {
    settle(refused) {
      relay.unsettled = undefined;
      if (refused === Errno.ok) eventfds.confirm(change);
      else eventfds.undo(change);
    },
  });
  relay.unsettled = change;
}

function sendBound(relay: Relay, header: Header, from: number, count: number, bound: boolean): void {
  const { qemu, server } = relay;
  const bytes = IrqSet.bytes + 4 * count;
  const at = server.reserve(HEADER_BYTES + bytes);
  if (at < 0) return;
  const { outputView: view } = server;
  const payload = at + HEADER_BYTES;
  writeHeader(view, at, header.id, header.command, HEADER_BYTES + bytes, header.flags, header.error);
  server.output.set(qemu.input.subarray(from, from + IrqSet.bytes), payload);
  view.setUint32(payload + IrqSet.argsz, bytes, true);
  for (let i = 0; i < count; i++) view.setInt32(payload + IrqSet.data + 4 * i, bound ? 0 : NO_TRIGGER, true);
  server.commit(HEADER_BYTES + bytes);
}

function isAction(action: number): boolean {
  return action === IrqSet.actionTrigger || action === IrqSet.actionMask || action === IrqSet.actionUnmask;
}
