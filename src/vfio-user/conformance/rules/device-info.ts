import { Command, DeviceInfo } from '../../spec.ts';
import { CONFIG, identity, isPresent } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal, equalBytes, inSection, isTrue, type Rule } from '../rule.ts';
import { NOTHING, viewOf, words } from '../wire.ts';

/** linux/vfio.h, VFIO_PCI_NUM_REGIONS and VFIO_PCI_NUM_IRQS. */
const PCI_REGIONS = 9;
const PCI_IRQS = 5;

function info(peer: Peer, argsz: number = DeviceInfo.bytes): Uint8Array {
  return peer.succeed(Command.deviceGetInfo, words(argsz, 0, 0, 0)).payload;
}

export const deviceInfoRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_GET_INFO', [
  {
    id: 'device-info.size',
    basis: 'specification',
    says: 'The reply has at least 16 bytes of payload.',
    check: context => isTrue(info(context.session()).length >= 16, 'the reply is too short'),
  },
  {
    id: 'device-info.argsz',
    basis: 'specification',
    says: 'argsz in the reply is the size of the full payload.',
    check: context => {
      const payload = info(context.session());
      equal(viewOf(payload).getUint32(DeviceInfo.argsz, true), payload.length, 'argsz');
    },
  },
  {
    id: 'device-info.pci',
    basis: 'specification',
    says: 'Only PCI devices are supported: VFIO_DEVICE_FLAGS_PCI is set.',
    check: context => isTrue((context.device.flags & DeviceInfo.pci) !== 0, 'the flag is clear'),
  },
  {
    id: 'device-info.flags-known',
    basis: 'linux-vfio',
    says: 'No flags are set beside those of reset, PCI and capabilities.',
    check: context => equal(context.device.flags & ~0x83, 0, 'other flags'),
  },
  {
    id: 'device-info.regions',
    basis: 'specification',
    says: 'A PCI device has the nine regions of VFIO at least.',
    check: context => isTrue(context.device.regions.length >= PCI_REGIONS, `${context.device.regions.length} regions`),
  },
  {
    id: 'device-info.irqs',
    basis: 'linux-vfio',
    says: 'A PCI device has the five interrupt types of VFIO at least.',
    check: context => isTrue(context.device.irqs.length >= PCI_IRQS, `${context.device.irqs.length} interrupt types`),
  },
  {
    id: 'device-info.config',
    basis: 'linux-vfio',
    says: 'The configuration space is region 7, with 256 or 4096 bytes.',
    check: context => {
      const { size } = context.device.regions[CONFIG]!;
      isTrue(size === 256n || size === 4096n, `${size} bytes`);
    },
  },
  {
    id: 'device-info.identity',
    basis: 'linux-vfio',
    says: 'A PCI device has a vendor id.',
    check: context => isTrue(isPresent(identity(context.session()).vendor), 'the vendor id reads as all ones'),
  },
  {
    id: 'device-info.repeatable',
    basis: 'specification',
    says: 'Asked twice, the answer is the same.',
    check: context => {
      const peer = context.session();
      equalBytes(info(peer), info(peer), 'the second answer');
    },
  },
  {
    id: 'device-info.argsz-large',
    basis: 'specification',
    says: 'argsz is a maximum: more is not refused, and the reply does not grow.',
    check: context => {
      const peer = context.session();
      equalBytes(info(peer, 4096), info(peer), 'the answer to a larger argsz');
    },
  },
  {
    id: 'device-info.argsz-short',
    basis: 'robustness',
    says: 'An argsz below the fixed part of the reply is refused, or answered with the size that is needed.',
    check: context => {
      const peer = context.session();
      const { error, payload } = peer.ask(Command.deviceGetInfo, words(8, 0, 0, 0));
      isTrue(error !== 0 || viewOf(payload).getUint32(0, true) >= 16, 'argsz in the reply is too small');
      peer.alive();
    },
  },
  {
    id: 'device-info.argsz-zero',
    basis: 'robustness',
    says: 'An argsz of 0 is refused, or answered with the size that is needed.',
    check: context => {
      const peer = context.session();
      const { error, payload } = peer.ask(Command.deviceGetInfo, words(0, 0, 0, 0));
      isTrue(error !== 0 || viewOf(payload).getUint32(0, true) >= 16, 'argsz in the reply is too small');
    },
  },
  {
    id: 'device-info.no-descriptors',
    basis: 'specification',
    says: 'The reply carries no descriptors.',
    check: context => {
      const reply = context.session().succeed(Command.deviceGetInfo, words(16, 0, 0, 0));
      equal(reply.descriptors.length, 0, 'descriptors');
    },
  },
]);

export const resetRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_RESET', [
  {
    id: 'reset.answered',
    basis: 'specification',
    says: 'A device that says that it supports reset can be reset.',
    check: context => {
      const peer = context.session();
      const { error } = peer.ask(Command.deviceReset, NOTHING);
      const supported = (context.device.flags & DeviceInfo.reset) !== 0;
      isTrue(!supported || error === 0, `errno ${error}`);
    },
  },
  {
    id: 'reset.no-payload',
    basis: 'specification',
    says: 'The reply has no payload.',
    check: context => equal(context.session().ask(Command.deviceReset, NOTHING).payload.length, 0, 'bytes'),
  },
  {
    id: 'reset.repeatable',
    basis: 'specification',
    says: 'A device can be reset again and again.',
    check: context => {
      const peer = context.session();
      for (let i = 0; i < 5; i++) peer.ask(Command.deviceReset, NOTHING);
      peer.alive();
    },
  },
  {
    id: 'reset.with-payload',
    basis: 'robustness',
    says: 'A payload, which does not belong to it, is decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.deviceReset, new Uint8Array(64).fill(0xff));
      peer.alive();
    },
  },
]);
