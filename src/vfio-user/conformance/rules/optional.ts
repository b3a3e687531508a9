/** Commands that a server need not have: what they answer where it has not, and their form where it has. */
import { Command, Feature } from '../../spec.ts';
import type { Context } from '../context.ts';
import { equal, equalBytes, inSection, isTrue, notOffered, type Rule, skip } from '../rule.ts';
import { NOTHING, viewOf, words } from '../wire.ts';
import { GET, migrationBits, PROBE, SET } from './migration-steps.ts';
import { multi, scratch } from './write-multi.ts';

const { regionWriteMulti, deviceFeature, migrationDataRead, migrationDataWrite } = Command;
const NO_FEATURE = 0xfff0;

export const writeMultiRules: readonly Rule[] = inSection('VFIO_USER_REGION_WRITE_MULTI', [
  {
    id: 'write-multi.not-agreed',
    basis: 'robustness',
    says: 'Without write_multiple in both proposals it is decided on.',
    check: context => {
      const peer = context.session({ capabilities: { write_multiple: false } });
      peer.ask(regionWriteMulti, multi(0n, []));
      peer.alive();
    },
  },
  {
    id: 'write-multi.not-supported',
    basis: 'specification',
    says: 'A server that leaves write_multiple out of its reply refuses it.',
    check: context => {
      const proposal = { capabilities: { write_multiple: true } };
      if (context.negotiated(proposal).write_multiple === true) skip('the server has write_multiple');
      const peer = context.session(proposal);
      peer.refuse(regionWriteMulti, multi(1n, [scratch(0n)]), 'what the server does not support');
      peer.alive();
    },
  },
]);

function refusesProbe(context: Context, flags: number, what: string): void {
  const peer = context.session();
  peer.refuse(deviceFeature, words(8, flags), what);
  peer.alive();
}

export const featureRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_FEATURE', [
  {
    id: 'feature.unknown-probe',
    basis: 'specification',
    says: 'Probing for a feature that there is not fails.',
    check: context => refusesProbe(context, NO_FEATURE | PROBE, 'a feature that nobody has'),
  },
  {
    id: 'feature.unknown-probe-get',
    basis: 'specification',
    says: 'Probing for getting a feature that there is not fails.',
    check: context => refusesProbe(context, NO_FEATURE | PROBE | GET, 'a feature that nobody has'),
  },
  {
    id: 'feature.unknown-get',
    basis: 'specification',
    says: 'Getting a feature that there is not fails.',
    check: context => refusesProbe(context, NO_FEATURE | GET, 'a feature that nobody has'),
  },
  {
    id: 'feature.unknown-set',
    basis: 'specification',
    says: 'Setting a feature that there is not fails.',
    check: context => refusesProbe(context, NO_FEATURE | SET, 'a feature that nobody has'),
  },
  {
    id: 'feature.get-and-set',
    basis: 'specification',
    says: 'GET and SET exclude each other outside of a probe.',
    check: context => refusesProbe(context, Feature.migration | GET | SET, 'GET and SET'),
  },
  {
    id: 'feature.no-operation',
    basis: 'robustness',
    says: 'Neither GET nor SET nor PROBE is refused.',
    check: context => refusesProbe(context, Feature.migration, 'no operation'),
  },
  {
    id: 'feature.payload-short',
    basis: 'specification',
    says: 'A payload of 7 bytes is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(deviceFeature, words(8, Feature.migration | PROBE).subarray(0, 7), '7 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'feature.migration-probed',
    basis: 'specification',
    says: 'Migration is probed and got alike: both work or neither.',
    check: context => {
      const peer = context.session();
      const got = migrationBits(peer) !== undefined;
      const { error } = peer.ask(deviceFeature, words(8, Feature.migration | PROBE | GET));
      equal(error === 0, got, 'the probe succeeds');
    },
  },
  {
    id: 'feature.migration-stop-copy',
    basis: 'specification',
    says: 'A device with migration has VFIO_MIGRATION_STOP_COPY at least.',
    check: context => {
      const bits = migrationBits(context.session());
      if (bits === undefined) notOffered('migration');
      isTrue((bits & 1n) !== 0n, 'the bit is clear');
    },
  },
  {
    id: 'feature.probe-echo',
    basis: 'specification',
    says: 'The reply to a probe is its request.',
    check: context => {
      const peer = context.session();
      if (migrationBits(peer) === undefined) notOffered('migration');
      const request = words(8, Feature.migration | PROBE);
      equalBytes(peer.succeed(deviceFeature, request).payload, request, 'payload');
    },
  },
  {
    id: 'feature.device-state',
    basis: 'specification',
    says: 'The device state comes with migration: without it, it is refused.',
    check: context => {
      const peer = context.session();
      const { error, payload } = peer.ask(deviceFeature, words(16, Feature.deviceState | GET, 0, 0));
      if (migrationBits(peer) === undefined) isTrue(error !== 0 || payload.length === 0, 'there is a device state');
      else equal(viewOf(payload).getUint32(8, true), 2, 'state of a device that runs');
    },
  },
  {
    id: 'feature.device-state-error',
    basis: 'specification',
    says: 'ERROR cannot be asked for as a device state.',
    check: context => {
      const peer = context.session();
      peer.refuse(deviceFeature, words(16, Feature.deviceState | SET, 0, 0), 'the state ERROR');
      peer.alive();
    },
  },
  {
    id: 'feature.device-state-unknown',
    basis: 'robustness',
    says: 'A device state that there is not cannot be asked for.',
    check: context => {
      const peer = context.session();
      peer.refuse(deviceFeature, words(16, Feature.deviceState | SET, 99, 0), 'state 99');
      peer.alive();
    },
  },
  {
    id: 'feature.report-without-logging',
    basis: 'specification',
    says: 'A dirty bitmap is to be had only after logging was started.',
    check: context => {
      const peer = context.session();
      peer.refuse(deviceFeature, words(4096, Feature.loggingReport | GET, 0, 0, 4096, 0, 4096, 0), 'no logging');
      peer.alive();
    },
  },
  {
    id: 'feature.report-page-size',
    basis: 'robustness',
    says: 'A page size of 0 ends no server.',
    check: context => {
      const peer = context.session();
      peer.ask(deviceFeature, words(4096, Feature.loggingReport | GET, 0, 0, 4096, 0, 0, 0));
      peer.alive();
    },
  },
  {
    id: 'feature.logging-ranges-cut',
    basis: 'robustness',
    says: 'More ranges to log than came are decided on.',
    check: context => {
      const peer = context.session();
      peer.ask(deviceFeature, words(64, Feature.loggingStart | SET, 4096, 0, 0xffffffff, 0));
      peer.alive();
    },
  },
]);

export const migrationRules: readonly Rule[] = inSection('VFIO_USER_MIG_DATA_READ', [
  {
    id: 'migration.read-while-running',
    basis: 'specification',
    says: 'Migration data can be read in a saving state only: not from a device that runs.',
    check: context => {
      const peer = context.session();
      peer.refuse(migrationDataRead, words(4096, 4088), 'a device that runs');
      peer.alive();
    },
  },
  {
    id: 'migration.read-payload-short',
    basis: 'specification',
    says: 'A read with 7 bytes of payload is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(migrationDataRead, words(4096, 4088).subarray(0, 7), '7 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'migration.read-huge',
    basis: 'robustness',
    says: 'A read of 4 GiB is refused at once.',
    check: context => {
      const peer = context.session();
      peer.refuse(migrationDataRead, words(0xffffffff, 0xffffffff), '4 GiB');
      peer.alive();
    },
  },
  {
    id: 'migration.write-while-running',
    basis: 'specification',
    says: 'Migration data can be written in the RESUMING state only: not to a device that runs.',
    check: context => {
      const peer = context.session();
      peer.refuse(migrationDataWrite, words(12, 4, 0), 'a device that runs');
      peer.alive();
    },
  },
  {
    id: 'migration.write-cut',
    basis: 'specification',
    says: 'A write of more than came is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(migrationDataWrite, words(4096, 4088), 'data that did not come');
      peer.alive();
    },
  },
  {
    id: 'migration.dirty-pages',
    basis: 'robustness',
    says: 'Command 14, the dirty pages of older versions, is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.dirtyPages, words(8, 1), 'a command of older versions');
      peer.refuse(Command.dirtyPages, NOTHING, 'no payload');
      peer.alive();
    },
  },
]);
