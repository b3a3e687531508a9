import { Command, HeaderFlag } from '../../spec.ts';
import { CONFIG, isObject, PROPOSAL, regionInfoRequest, versionData } from '../context.ts';
import type { Peer } from '../peer.ts';
import { equal, inSection, isTrue, type Rule } from '../rule.ts';
import { accessPayload, message, NOTHING, versionPayload, words } from '../wire.ts';

const INFO = words(16, 0, 0, 0);
const UNKNOWN = 77;
const RESERVED_FLAGS = 0x7fffffc0 | 0x80000000;

/** A command that no server knows is refused, with a header and nothing else, and the next one is served. */
function refuses(peer: Peer, command: number, what: string): void {
  peer.refuse(command, NOTHING, what);
  peer.alive();
}

export const headerRules: readonly Rule[] = inSection('Header', [
  {
    id: 'header.id-echoed',
    basis: 'specification',
    says: "A reply carries its command's message id.",
    check: context => {
      equal(context.session().succeed(Command.deviceGetInfo, INFO, { id: 0x1234 }).id, 0x1234, 'id of the reply');
    },
  },
  {
    id: 'header.id-zero',
    basis: 'specification',
    says: 'Message id 0 is an id like any other.',
    check: context => {
      equal(context.session().succeed(Command.deviceGetInfo, INFO, { id: 0 }).id, 0, 'id of the reply');
    },
  },
  {
    id: 'header.id-largest',
    basis: 'specification',
    says: 'Message ids have 16 bits, all of which come back.',
    check: context => {
      equal(context.session().succeed(Command.deviceGetInfo, INFO, { id: 0xffff }).id, 0xffff, 'id of the reply');
    },
  },
  {
    id: 'header.id-reused',
    basis: 'specification',
    says: 'An id may be used again once it is answered.',
    check: context => {
      const peer = context.session();
      for (let i = 0; i < 3; i++) peer.succeed(Command.deviceGetInfo, INFO, { id: 7 });
    },
  },
  {
    id: 'header.id-reused-concurrently',
    basis: 'specification',
    says: 'Ids belong to the sender: two commands under way may have the same, and each is answered.',
    check: context => {
      const peer = context.session();
      peer.tell(Command.deviceGetInfo, INFO, { id: 9 });
      peer.tell(Command.deviceGetRegionInfo, regionInfoRequest(0), { id: 9 });
      peer.reply(9, Command.deviceGetInfo);
      peer.reply(9, Command.deviceGetRegionInfo);
    },
  },
  {
    id: 'header.id-decreasing',
    basis: 'specification',
    says: 'Nothing is assumed about the order of ids.',
    check: context => {
      const peer = context.session();
      for (const id of [500, 3, 499, 2]) equal(peer.succeed(Command.deviceGetInfo, INFO, { id }).id, id, 'id');
    },
  },
  {
    id: 'header.command-echoed',
    basis: 'specification',
    says: "A reply carries its command's number.",
    check: context => {
      const { command } = context.session().succeed(Command.deviceGetIrqInfo, words(16, 0, 0, 0));
      equal(command, Command.deviceGetIrqInfo, 'command of the reply');
    },
  },
  {
    id: 'header.command-echoed-in-error',
    basis: 'specification',
    says: "An error reply carries its command's number.",
    check: context => {
      const reply = context.session().ask(Command.deviceGetRegionInfo, regionInfoRequest(0xffff), { id: 0x4321 });
      isTrue((reply.flags & HeaderFlag.error) !== 0, 'region 65535 exists');
      equal(reply.command, Command.deviceGetRegionInfo, 'command of the reply');
    },
  },
  {
    id: 'header.reply-flags',
    basis: 'specification',
    says: 'A reply to a command that succeeded has the Reply type and no other flag.',
    check: context => {
      equal(context.session().succeed(Command.deviceGetInfo, INFO).flags, HeaderFlag.typeReply, 'flags of the reply');
    },
  },
  {
    id: 'header.error-flags',
    basis: 'specification',
    says: 'A reply to a command that failed has the Reply type, the Error bit and no other flag.',
    check: context => {
      const reply = context.session().ask(Command.deviceGetRegionInfo, regionInfoRequest(0xffff));
      equal(reply.flags, HeaderFlag.typeReply | HeaderFlag.error, 'flags of the error reply');
    },
  },
  {
    id: 'header.error-has-no-payload',
    basis: 'specification',
    says: 'An error reply is a header alone.',
    check: context => {
      const reply = context.session().ask(Command.deviceGetRegionInfo, regionInfoRequest(0xffff));
      isTrue((reply.flags & HeaderFlag.error) !== 0, 'region 65535 exists');
      equal(reply.payload.length, 0, 'bytes of payload');
    },
  },
  {
    id: 'header.error-is-errno',
    basis: 'specification',
    says: 'The Error field of an error reply is a UNIX errno, or zero.',
    check: context => {
      const errno = context.session().refuse(Command.deviceGetRegionInfo, regionInfoRequest(0xffff), 'index 65535');
      isTrue(errno < 4096, `${errno} is no errno`);
    },
  },
  {
    id: 'header.success-has-no-error',
    basis: 'robustness',
    says: 'The Error field of a reply without the Error bit is zero.',
    check: context => {
      equal(context.session().succeed(Command.deviceGetInfo, INFO).error, 0, 'error field');
    },
  },
  {
    id: 'header.no-reply',
    basis: 'specification',
    says: 'A command with the No_reply bit is not answered.',
    check: context => {
      const peer = context.session();
      peer.tell(Command.deviceGetInfo, INFO, { flags: HeaderFlag.noReply });
      peer.alive();
    },
  },
  {
    id: 'header.no-reply-failed',
    basis: 'specification',
    says: 'A command with the No_reply bit is not answered where it fails.',
    check: context => {
      const peer = context.session();
      peer.tell(Command.deviceGetRegionInfo, regionInfoRequest(0xffff), { flags: HeaderFlag.noReply });
      peer.alive();
    },
  },
  {
    id: 'header.no-reply-unknown-command',
    basis: 'specification',
    says: 'An unknown command with the No_reply bit is not answered.',
    check: context => {
      const peer = context.session();
      peer.tell(UNKNOWN, NOTHING, { flags: HeaderFlag.noReply });
      peer.alive();
    },
  },
  {
    id: 'header.unknown-command',
    basis: 'specification',
    says: 'Every command is replied to: an unknown one with an error.',
    check: context => refuses(context.session(), UNKNOWN, 'a number that no command has'),
  },
  {
    id: 'header.command-zero',
    basis: 'robustness',
    says: 'Command 0 is none.',
    check: context => refuses(context.session(), 0, 'number 0'),
  },
  {
    id: 'header.command-largest',
    basis: 'robustness',
    says: 'Command 65535 is none.',
    check: context => refuses(context.session(), 0xffff, 'number 65535'),
  },
  {
    id: 'header.command-after-last',
    basis: 'robustness',
    says: 'Command 19, one behind the last, is none.',
    check: context => refuses(context.session(), 19, 'number 19'),
  },
  {
    id: 'header.unknown-command-payload',
    basis: 'robustness',
    says: 'The payload of an unknown command is skipped, whatever it is.',
    check: context => {
      const peer = context.session();
      peer.refuse(UNKNOWN, new Uint8Array(1000).fill(0xff), 'a number that no command has');
      peer.alive();
    },
  },
  {
    id: 'header.server-command-read',
    basis: 'specification',
    says: 'DMA_READ goes from server to client only: a client that sends it is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.dmaRead, new Uint8Array(16), 'the wrong direction');
      peer.alive();
    },
  },
  {
    id: 'header.server-command-write',
    basis: 'specification',
    says: 'DMA_WRITE goes from server to client only: a client that sends it is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.dmaWrite, new Uint8Array(24), 'the wrong direction');
      peer.alive();
    },
  },
  {
    id: 'header.error-field-reserved',
    basis: 'specification',
    says: 'The Error field of a command is reserved: it changes nothing.',
    check: context => {
      context.session().succeed(Command.deviceGetInfo, INFO, { error: 22 });
    },
  },
  {
    id: 'header.error-bit-in-command',
    basis: 'specification',
    says: 'The Error bit says something in replies only: in a command it changes nothing.',
    check: context => {
      context.session().succeed(Command.deviceGetInfo, INFO, { flags: HeaderFlag.error });
    },
  },
  {
    id: 'header.reserved-flags',
    basis: 'robustness',
    says: 'Flags without a meaning are answered one way or the other.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, INFO, { flags: RESERVED_FLAGS | 0 }));
      peer.outcome('a command with reserved flags');
    },
  },
  {
    id: 'header.unknown-type',
    basis: 'robustness',
    says: 'A message that is neither command nor reply is refused or ends the connection.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, INFO, { flags: 2 }));
      isTrue(peer.outcome('a message of type 2') !== 'answered', 'a message of type 2 was taken for a command');
    },
  },
  {
    id: 'header.type-all-ones',
    basis: 'robustness',
    says: 'All four bits of the type count.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, INFO, { flags: 15 }));
      isTrue(peer.outcome('a message of type 15') !== 'answered', 'a message of type 15 was taken for a command');
    },
  },
  {
    id: 'header.reply-to-nothing',
    basis: 'robustness',
    says: 'A reply to a request that the server never made is not answered.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.dmaRead, new Uint8Array(16), { flags: HeaderFlag.typeReply }));
      peer.tell(Command.deviceGetInfo, INFO, { id: 55 });
      const outcome = peer.outcome('a reply to nothing, and a command');
      isTrue(outcome !== 'refused', 'the server answered a reply with an error');
    },
  },
  {
    id: 'header.reply-of-client-command',
    basis: 'robustness',
    says: 'A reply to a command that servers never send is not answered.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, INFO, { flags: HeaderFlag.typeReply }));
      peer.tell(Command.deviceGetIrqInfo, words(16, 0, 0, 0), { id: 56 });
      isTrue(peer.outcome('a reply to nothing') !== 'refused', 'the server answered a reply with an error');
    },
  },
  {
    id: 'header.size-zero',
    basis: 'robustness',
    says: 'A size of 0 is less than the header: refused, or the connection ends.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, NOTHING, { size: 0 }));
      isTrue(peer.outcome('a size of 0') !== 'answered', 'a message of size 0 was taken');
    },
  },
  {
    id: 'header.size-below-header',
    basis: 'robustness',
    says: 'A size of 15 is less than the header: refused, or the connection ends.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceReset, NOTHING, { size: 15 }));
      isTrue(peer.outcome('a size of 15') !== 'answered', 'a message of size 15 was taken');
    },
  },
  {
    id: 'header.size-largest',
    basis: 'robustness',
    says: 'A size of 4 GiB is refused, or the connection ends: no server waits for so much.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, INFO, { size: 0xffffffff }));
      isTrue(peer.outcome('a size of 4 GiB') !== 'answered', 'a message of 4 GiB was answered before it came');
    },
  },
  {
    id: 'header.size-negative',
    basis: 'robustness',
    says: 'A size with its highest bit set is large, not negative.',
    check: context => {
      const peer = context.session();
      peer.send(message(Command.deviceGetInfo, INFO, { size: 0x80000010 }));
      isTrue(peer.outcome('a size of 2 GiB') !== 'answered', 'a message of 2 GiB was answered before it came');
    },
  },
  {
    id: 'header.size-above-transfer',
    basis: 'robustness',
    says: 'A message larger than the negotiated transfer size and its headers is refused, or the connection ends.',
    check: context => {
      const limit = context.limit('max_data_xfer_size');
      const peer = context.session();
      peer.send(message(Command.regionWrite, accessPayload(CONFIG, 0, 4), { size: limit + 65536 + 48 }));
      isTrue(peer.outcome('a size above max_data_xfer_size') !== 'answered', 'it was answered before it came');
    },
  },
  {
    id: 'header.payload-missing',
    basis: 'robustness',
    says: 'A command without the payload that it needs is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetInfo, NOTHING, 'no payload');
      peer.alive();
    },
  },
  {
    id: 'header.payload-short',
    basis: 'robustness',
    says: 'A command whose payload is a byte too short is refused.',
    check: context => {
      const peer = context.session();
      peer.refuse(Command.deviceGetInfo, INFO.subarray(0, 15), '15 bytes of payload');
      peer.alive();
    },
  },
  {
    id: 'header.payload-long',
    basis: 'robustness',
    says: 'Bytes behind the payload belong to the message, not to the next one.',
    check: context => {
      const peer = context.session();
      peer.ask(Command.deviceGetInfo, new Uint8Array([...INFO, 1, 2, 3, 4]));
      peer.alive();
    },
  },
  {
    id: 'header.server-goes-on-after-errors',
    basis: 'specification',
    says: 'A failed command leaves the connection as it was: a hundred in a row, and the next one succeeds.',
    check: context => {
      const peer = context.session();
      for (let i = 0; i < 100; i++) peer.refuse(Command.deviceGetRegionInfo, regionInfoRequest(0xffff), 'index 65535');
      peer.alive();
    },
  },
  {
    id: 'header.version-in-host-order',
    basis: 'specification',
    says: 'All data is in the byte order of the host: a VERSION reply of 0.0 and its own size.',
    check: context => {
      const { payload } = context.connect().succeed(Command.version, versionPayload(PROPOSAL));
      isTrue(payload.length >= 4, 'the VERSION reply has no version');
      isTrue(isObject(versionData(payload)), 'the version data is not an object');
    },
  },
]);
