/** Who says what first, and what the answer holds. */
import { Command, HeaderFlag } from '../../spec.ts';
import { capabilitiesOf, PROPOSAL, versionData } from '../context.ts';
import { equal, fail, inSection, isTrue, type Rule } from '../rule.ts';
import { message, NOTHING, versionPayload, viewOf, words } from '../wire.ts';
import { accepts, needsHandshake, number, rejects } from './version-steps.ts';

export const versionRules: readonly Rule[] = inSection('VFIO_USER_VERSION', [
  {
    id: 'version.accepted',
    basis: 'specification',
    says: 'The server replies to a version and capabilities that it supports.',
    check: context => void accepts(context, PROPOSAL),
  },
  {
    id: 'version.major-same',
    basis: 'specification',
    says: 'The major version in the reply is the one proposed.',
    check: context => equal(viewOf(accepts(context, PROPOSAL)).getUint16(0, true), 0, 'major version'),
  },
  {
    id: 'version.minor-not-above',
    basis: 'specification',
    says: 'The minor version in the reply is not above the one proposed.',
    check: context => equal(viewOf(accepts(context, PROPOSAL)).getUint16(2, true), 0, 'minor version'),
  },
  {
    id: 'version.minor-higher-proposed',
    basis: 'specification',
    says: 'A higher minor version than the server knows is no reason to refuse.',
    check: context => {
      const minor = viewOf(accepts(context, PROPOSAL, { minor: 5 })).getUint16(2, true);
      isTrue(minor <= 5, `minor version ${minor} in the reply, 5 proposed`);
    },
  },
  {
    id: 'version.minor-largest',
    basis: 'specification',
    says: 'The largest minor version is no reason to refuse.',
    check: context => void accepts(context, PROPOSAL, { minor: 0xffff }),
  },
  {
    id: 'version.major-unsupported',
    basis: 'specification',
    says: 'A major version that the server does not support does not get through.',
    check: context => rejects(context, versionPayload(PROPOSAL, { major: 1 }), 'major version 1'),
  },
  {
    id: 'version.major-largest',
    basis: 'specification',
    says: 'Major version 65535 does not get through.',
    check: context => rejects(context, versionPayload(PROPOSAL, { major: 0xffff }), 'major version 65535'),
  },
  {
    id: 'version.next-client-after-mismatch',
    basis: 'specification',
    says: 'After a mismatch the next client is served.',
    check: context => {
      rejects(context, versionPayload(PROPOSAL, { major: 7 }), 'major version 7');
      context.closePeers();
      accepts(context, PROPOSAL);
    },
  },
  {
    id: 'version.reply-terminated',
    basis: 'specification',
    says: 'The version data of the reply ends in NUL, and holds no other.',
    check: context => {
      const data = accepts(context, PROPOSAL).subarray(4);
      if (data.length > 0) equal(data.indexOf(0), data.length - 1, 'where the first NUL is');
    },
  },
  {
    id: 'version.reply-json',
    basis: 'specification',
    says: 'The version data of the reply is a JSON object in UTF-8.',
    check: context => void versionData(accepts(context, PROPOSAL)),
  },
  {
    id: 'version.reply-subset',
    basis: 'specification',
    says: 'The capabilities of the reply are among those proposed.',
    check: context => {
      const extra = Object.keys(context.negotiated()).filter(name => !(name in PROPOSAL.capabilities));
      if (extra.length > 0) fail(`not proposed: ${extra.join(', ')}`);
    },
  },
  {
    id: 'version.reply-subset-of-one',
    basis: 'specification',
    says: 'The capabilities of the reply are among those proposed, where that is one.',
    check: context => {
      const extra = Object.keys(context.negotiated({ capabilities: { pgsizes: 4096 } })).filter(
        name => name !== 'pgsizes',
      );
      if (extra.length > 0) fail(`not proposed: ${extra.join(', ')}`);
    },
  },
  {
    id: 'version.reply-subset-of-none',
    basis: 'specification',
    says: 'The capabilities of the reply are among those proposed, where there are none.',
    check: context => {
      const names = Object.keys(capabilitiesOf(accepts(context, {})));
      if (names.length > 0) fail(`not proposed: ${names.join(', ')}`);
    },
  },
  {
    id: 'version.max-msg-fds',
    basis: 'specification',
    says: 'max_msg_fds in the reply is a number that is not negative.',
    check: context => isTrue(number(context, 'max_msg_fds') >= 0, 'max_msg_fds is negative'),
  },
  {
    id: 'version.max-data-xfer-size',
    basis: 'specification',
    says: 'max_data_xfer_size in the reply is a number above zero.',
    check: context => isTrue(number(context, 'max_data_xfer_size') > 0, 'max_data_xfer_size is not above zero'),
  },
  {
    id: 'version.max-dma-maps',
    basis: 'specification',
    says: 'max_dma_maps in the reply is a number above zero.',
    check: context => isTrue(number(context, 'max_dma_maps') > 0, 'max_dma_maps is not above zero'),
  },
  {
    id: 'version.pgsizes',
    basis: 'specification',
    says: 'pgsizes in the reply names at least one page size.',
    check: context => isTrue(number(context, 'pgsizes') > 0, 'pgsizes is zero'),
  },
  {
    id: 'version.pgsizes-proposed',
    basis: 'specification',
    says: 'pgsizes in the reply has no page size that the client does not have.',
    check: context => equal(number(context, 'pgsizes') & ~4096, 0, 'page sizes beside 4096'),
  },
  {
    id: 'version.write-multiple-boolean',
    basis: 'specification',
    says: 'write_multiple in the reply is a boolean.',
    check: context => {
      const value = context.negotiated({ capabilities: { write_multiple: true } }).write_multiple;
      isTrue(value === undefined || typeof value === 'boolean', `write_multiple is ${String(value)}`);
    },
  },
  {
    id: 'version.write-multiple-refused',
    basis: 'specification',
    says: 'write_multiple is not true in the reply where the client proposed false.',
    check: context => {
      const value = context.negotiated({ capabilities: { write_multiple: false } }).write_multiple;
      isTrue(value !== true, 'write_multiple is true');
    },
  },
  {
    id: 'version.twin-socket-unasked',
    basis: 'specification',
    says: 'Twin-socket mode is not set up for a client that does not ask for it.',
    check: context => {
      const peer = context.connect();
      const reply = peer.succeed(Command.version, versionPayload(PROPOSAL));
      isTrue(!('twin_socket' in capabilitiesOf(reply.payload)), 'twin_socket is in the reply');
      equal(reply.descriptors.length, 0, 'descriptors with the reply');
    },
  },
  {
    id: 'version.twin-socket-denied',
    basis: 'specification',
    says: 'Twin-socket mode is not set up for a client that says that it does not support it.',
    check: context => {
      const peer = context.connect();
      const proposal = { capabilities: { twin_socket: { supported: false } } };
      const reply = peer.succeed(Command.version, versionPayload(proposal));
      const twin = capabilitiesOf(reply.payload).twin_socket as { supported?: unknown } | undefined;
      isTrue(twin?.supported !== true, 'twin_socket.supported is true');
      equal(reply.descriptors.length, 0, 'descriptors with the reply');
    },
  },
  {
    id: 'version.twin-socket-consistent',
    basis: 'specification',
    says: 'Twin-socket mode, where it is set up, comes with the descriptor that fd_index names.',
    check: context => {
      const peer = context.connect();
      const proposal = { capabilities: { max_msg_fds: 8, twin_socket: { supported: true } } };
      const reply = peer.succeed(Command.version, versionPayload(proposal));
      const twin = capabilitiesOf(reply.payload).twin_socket as { supported?: unknown; fd_index?: unknown } | undefined;
      if (twin?.supported !== true) {
        equal(reply.descriptors.length, 0, 'descriptors with a reply that sets up no twin socket');
        return;
      }
      isTrue(typeof twin.fd_index === 'number', 'fd_index is missing');
      isTrue(reply.descriptors[twin.fd_index] !== undefined, `no descriptor ${twin.fd_index} came with the reply`);
    },
  },
  {
    id: 'version.first-info',
    basis: 'specification',
    says: 'VERSION is the first message: DEVICE_GET_INFO is not done before it.',
    check: context => needsHandshake(context, Command.deviceGetInfo, words(16, 0, 0, 0)),
  },
  {
    id: 'version.first-reset',
    basis: 'specification',
    says: 'VERSION is the first message: DEVICE_RESET is not done before it.',
    check: context => needsHandshake(context, Command.deviceReset, NOTHING),
  },
  {
    id: 'version.first-read',
    basis: 'specification',
    says: 'VERSION is the first message: REGION_READ is not done before it.',
    check: context => needsHandshake(context, Command.regionRead, words(0, 0, 7, 4)),
  },
  {
    id: 'version.first-unknown',
    basis: 'robustness',
    says: 'VERSION is the first message: an unknown command before it is not answered as if it were done.',
    check: context => needsHandshake(context, 77, NOTHING),
  },
  {
    id: 'version.repeated',
    basis: 'robustness',
    says: 'A second VERSION is decided on.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.version, versionPayload(PROPOSAL)));
      peer.outcome('a second VERSION');
    },
  },
  {
    id: 'version.no-reply',
    basis: 'robustness',
    says: 'A VERSION with the No_reply bit is not answered, or the connection ends.',
    check: context => {
      const peer = context.connect();
      peer.send(message(Command.version, versionPayload(PROPOSAL), { flags: HeaderFlag.noReply, id: 3 }));
      peer.send(message(Command.deviceGetInfo, words(16, 0, 0, 0), { id: 4 }));
      const reply = peer.nextOrEnd('VERSION with No_reply, and a command');
      if (reply !== undefined) equal(reply.id, 4, 'id of the first reply, where 3 asked for none');
    },
  },
  {
    id: 'version.in-pieces',
    basis: 'specification',
    says: 'A VERSION that arrives byte by byte is one message.',
    check: context => {
      const peer = context.connect();
      const bytes = message(Command.version, versionPayload(PROPOSAL), { id: 3 });
      for (const byte of bytes) peer.send(Uint8Array.of(byte));
      peer.reply(3, Command.version);
      peer.alive();
    },
  },
  {
    id: 'version.pipelined',
    basis: 'specification',
    says: 'Commands may follow VERSION without waiting for its reply.',
    check: context => {
      const peer = context.connect();
      peer.tell(Command.version, versionPayload(PROPOSAL), { id: 3 });
      peer.tell(Command.deviceGetInfo, words(16, 0, 0, 0), { id: 4 });
      peer.reply(3, Command.version);
      equal(peer.reply(4, Command.deviceGetInfo).error, 0, 'errno of the command');
    },
  },
  {
    id: 'version.each-connection',
    basis: 'specification',
    says: 'Each connection has its own handshake.',
    check: context => {
      context.session().close();
      needsHandshake(context, Command.deviceGetInfo, words(16, 0, 0, 0));
    },
  },
]);
