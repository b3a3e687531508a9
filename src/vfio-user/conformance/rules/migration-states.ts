/** The states of a device that can be saved, and its data on the way out and in. */
import { Command, Feature, MigrationData } from '../../spec.ts';
import { equal, equalBytes, inSection, isTrue, type Rule, skip } from '../rule.ts';
import { NOTHING, viewOf, words } from '../wire.ts';
import {
  askPiece,
  askState,
  enter,
  isIn,
  MOST_PIECES,
  migrating,
  PRE_COPY_BIT,
  readPiece,
  readState,
  readWhole,
  refuseState,
  SET,
  State,
  stateRequest,
  writePiece,
} from './migration-steps.ts';

const { deviceFeature, deviceReset, migrationDataRead, migrationDataWrite } = Command;
const { stop, running, stopCopy, resuming, preCopy, error } = State;
const PIECE = 1000;

export const migrationStateRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_FEATURE', [
  {
    id: 'migration-state.runs-at-first',
    basis: 'specification',
    says: 'A device that nobody touched runs.',
    check: context => migrating(context, peer => isIn(peer, running)),
  },
  {
    id: 'migration-state.set-echo',
    basis: 'specification',
    says: 'The reply to setting a state is its request.',
    check: context =>
      migrating(context, peer => {
        const { payload } = peer.succeed(deviceFeature, stateRequest(stop));
        equalBytes(payload, stateRequest(stop), 'payload of the reply');
      }),
  },
  {
    id: 'migration-state.stop-and-run',
    basis: 'specification',
    says: 'RUNNING to STOP, and back.',
    check: context => migrating(context, peer => enter(peer, stop, running)),
  },
  {
    id: 'migration-state.same-again',
    basis: 'linux-vfio',
    says: 'A device that is in a state already can be told to go there.',
    check: context => migrating(context, peer => enter(peer, running, stop, stop)),
  },
  {
    id: 'migration-state.save-arcs',
    basis: 'specification',
    says: 'STOP to STOP_COPY, and back.',
    check: context => migrating(context, peer => enter(peer, stop, stopCopy, stop)),
  },
  {
    id: 'migration-state.through-stop',
    basis: 'specification',
    says: 'RUNNING to STOP_COPY and back is put together from the arcs through STOP.',
    check: context => migrating(context, peer => enter(peer, stopCopy, running)),
  },
  {
    id: 'migration-state.to-resuming',
    basis: 'specification',
    says: 'STOP to RESUMING, and RUNNING and STOP_COPY to RESUMING through STOP.',
    check: context =>
      migrating(context, peer => {
        for (const from of [stop, running, stopCopy]) {
          enter(peer, from, resuming);
          // Nothing was written, so going on may fail; a reset gives a device that runs in any case.
          if (askState(peer, running).error !== 0) peer.succeed(deviceReset, NOTHING);
          isIn(peer, running);
        }
      }),
  },
  {
    id: 'migration-state.saving-to-pre-copy',
    basis: 'specification',
    says: 'STOP_COPY to PRE_COPY is not allowed, and changes nothing.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        refuseState(peer, preCopy);
        isIn(peer, stopCopy);
      }),
  },
  {
    id: 'migration-state.no-pre-copy',
    basis: 'specification',
    says: 'Without the bit PRE_COPY no way leads there.',
    check: context =>
      migrating(context, (peer, bits) => {
        if ((bits & PRE_COPY_BIT) !== 0n) skip('the device has PRE_COPY');
        refuseState(peer, preCopy);
        isIn(peer, running);
      }),
  },
  {
    id: 'migration-state.pre-copy',
    basis: 'specification',
    says: 'RUNNING to PRE_COPY and back, and PRE_COPY to STOP_COPY.',
    check: context =>
      migrating(context, (peer, bits) => {
        if ((bits & PRE_COPY_BIT) === 0n) skip('not offered: PRE_COPY');
        enter(peer, preCopy, running, preCopy, stopCopy);
      }),
  },
  {
    id: 'migration-state.refused-changes-nothing',
    basis: 'specification',
    says: 'ERROR cannot be asked for, and asking changes nothing.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stop);
        refuseState(peer, error);
        isIn(peer, stop);
      }),
  },
  {
    id: 'migration-state.set-cut',
    basis: 'robustness',
    says: 'Setting a state without the state is refused, and changes nothing.',
    check: context =>
      migrating(context, peer => {
        peer.refuse(deviceFeature, words(16, Feature.deviceState | SET), 'no state');
        isIn(peer, running);
      }),
  },
]);

export const migrationDataRules: readonly Rule[] = inSection('VFIO_USER_MIG_DATA_READ', [
  {
    id: 'migration-data.stream',
    basis: 'specification',
    says: 'The state is a stream: pieces as they are asked for, and a shorter one ends it.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        readWhole(peer, PIECE);
        equal(readPiece(peer, PIECE).length, 0, 'bytes behind the end');
      }),
  },
  {
    id: 'migration-data.form',
    basis: 'specification',
    says: 'The reply holds as many bytes as its size says, and argsz is that of all of it.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        let count = PIECE;
        for (let i = 0; i < MOST_PIECES && count === PIECE; i++) {
          const payload = askPiece(peer, PIECE);
          const view = viewOf(payload);
          count = view.getUint32(MigrationData.size, true);
          equal(payload.length, MigrationData.bytes + count, 'bytes of the reply');
          equal(view.getUint32(MigrationData.argsz, true), payload.length, 'argsz');
        }
      }),
  },
  {
    id: 'migration-data.sessions',
    basis: 'specification',
    says: 'Leaving STOP_COPY ends the session: nothing can be read in STOP.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy, stop);
        peer.refuse(migrationDataRead, words(8 + PIECE, PIECE), 'a device in STOP');
      }),
  },
  {
    id: 'migration-data.from-the-beginning',
    basis: 'specification',
    says: 'A new session begins at the beginning.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        const { length } = readWhole(peer, PIECE);
        enter(peer, stop, stopCopy);
        equal(readWhole(peer, PIECE).length, length, 'bytes of the state in the second session');
      }),
  },
  {
    id: 'migration-data.argsz-small',
    basis: 'robustness',
    says: 'A read of more than argsz has room for is refused, or gives less.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        const { payload } = peer.ask(migrationDataRead, words(16, PIECE));
        isTrue(payload.length <= 16, `${payload.length} bytes came where argsz was 16`);
      }),
  },
  {
    id: 'migration-data.no-write-while-saving',
    basis: 'specification',
    says: 'Nothing can be written in STOP_COPY, and nothing read in RESUMING.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        peer.refuse(migrationDataWrite, words(12, 4, 0), 'a device in STOP_COPY');
        enter(peer, resuming);
        peer.refuse(migrationDataRead, words(8 + PIECE, PIECE), 'a device in RESUMING');
      }),
  },
  {
    id: 'migration-data.round-trip',
    basis: 'specification',
    says: 'A state that was read can be written, in other pieces, and the device runs with it.',
    check: context =>
      migrating(context, peer => {
        enter(peer, stopCopy);
        const state = readWhole(peer, PIECE);
        enter(peer, resuming);
        const piece = Math.max(1, Math.ceil(state.length / 3));
        for (let at = 0; at < state.length; at += piece) writePiece(peer, state.subarray(at, at + piece));
        enter(peer, stop, running);
      }),
  },
  {
    id: 'migration-data.reset-after-error',
    basis: 'specification',
    says: 'A reset leads from ERROR to RUNNING.',
    check: context =>
      migrating(context, peer => {
        enter(peer, resuming);
        writePiece(peer, new Uint8Array(16).fill(0xff));
        askState(peer, stop);
        if (readState(peer) !== error) skip('the device takes any state, or stays where it was');
        refuseState(peer, running);
        peer.succeed(deviceReset, NOTHING);
        isIn(peer, running);
      }),
  },
]);
