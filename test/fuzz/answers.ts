/** How a fuzzed client answers what the server asks of its memory: rightly, or wrong in each way that there is. */
import { message } from '../../src/vfio-user/conformance/wire.ts';
import { Command, DmaAccess, HeaderFlag } from '../../src/vfio-user/spec.ts';
import type { Random } from './random.ts';
import { ANSWER_WAYS, type AnswerWay } from './steps.ts';

const ERRNOS = 130;
const NOTHING = new Uint8Array(0);

/** Of a client that others wait for. */
export const PATIENT: readonly AnswerWay[] = ['right', 'right', 'right', 'error', 'late'];
export const ANY_ANSWERS: readonly AnswerWay[] = [...PATIENT, ...PATIENT, ...ANSWER_WAYS];
/** The server ends the connection after them. */
export const ENDING_ANSWERS: ReadonlySet<AnswerWay> = new Set([
  'twice',
  'wrong-address',
  'wrong-length',
  'wrong-command',
]);

/** A DMA_READ or a DMA_WRITE of the server. */
export interface Asked {
  readonly command: number;
  readonly address: bigint;
  readonly count: number;
}

export interface AnswerMeans {
  readonly random: Random;
  /** Memory that is reached by messages. */
  readonly memory: (address: bigint, count: number) => Uint8Array;
}

/** The messages, one after the other. None for an answer that comes late, or never. */
export function answersTo(id: number, asked: Asked, way: AnswerWay, means: AnswerMeans): Uint8Array[] {
  const { address, count, command } = asked;
  const reading = command === Command.dmaRead;
  const right = () => reply(id, command, echo(means, address, count, reading));
  switch (way) {
    case 'never':
    case 'late':
      return [];
    case 'error':
      return [reply(id, command, NOTHING, 1 + means.random.below(ERRNOS))];
    case 'wrong-address':
      return [reply(id, command, echo(means, address ^ 0x1000n, count, reading))];
    case 'wrong-length':
      return [reply(id, command, echo(means, address, count, !reading || count === 1).subarray(0, reading ? 17 : 12))];
    case 'wrong-command':
      return [reply(id, reading ? Command.dmaWrite : Command.dmaRead, echo(means, address, count, reading))];
    case 'twice':
      return [right(), right()];
    case 'right':
      return [right()];
  }
}

function echo({ memory }: AnswerMeans, address: bigint, count: number, withData: boolean): Uint8Array {
  const payload = new Uint8Array(DmaAccess.bytes + (withData ? count : 0));
  const view = new DataView(payload.buffer);
  view.setBigUint64(DmaAccess.address, address, true);
  view.setBigUint64(DmaAccess.count, BigInt(count), true);
  if (withData) payload.set(memory(address, count), DmaAccess.data);
  return payload;
}

function reply(id: number, command: number, payload: Uint8Array, error = 0): Uint8Array {
  return message(command, payload, { id, flags: HeaderFlag.typeReply | (error === 0 ? 0 : HeaderFlag.error), error });
}
