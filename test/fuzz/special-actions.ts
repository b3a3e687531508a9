/** What only some functions and some connections have, and what takes two connections: actions of an episode. */
import { dmaPayload, message } from '../../src/vfio-user/conformance/wire.ts';
import { HeaderFlag } from '../../src/vfio-user/spec.ts';
import { anyDescriptors } from './draw.ts';
import type { FunctionFacts } from './expectation.ts';
import { compose, type Outgoing, toBytes } from './messages.ts';
import { restoreRightly } from './migrations.ts';
import {
  DOORBELL_REGION,
  ENTRIES,
  ENTRY_BYTES,
  FIRST_OFFERED_INTERRUPT,
  OFFERED_FILE_BYTES,
  offeredInterrupts,
  offers,
  WORK_REGION,
} from './offers.ts';
import { enable, type FunctionKind, workEntry } from './programs.ts';
import type { Random } from './random.ts';
import type { Reference } from './reference.ts';
import { MOST_FILE_IO } from './reference-memory.ts';
import { type AnswerWay, type DescriptorKind, EVENTFDS, type Step } from './steps.ts';
import { DATA, DATA_BYTES, STRUCTURE_BYTES, STRUCTURES, translationProgram } from './translations.ts';

/** Ids that no server reaches within an episode: replies with them answer nothing. */
export const UNASKED_ID = 0x8000;
/** Guest addresses beyond all others that are drawn. */
const FILE_IO = 0x4000000n;

/** Somebody to talk to. */
export interface Target {
  /** `vtd/edu0`: the machine and its function. */
  readonly name: string;
  readonly kind: FunctionKind;
  readonly facts: FunctionFacts;
  /** One that it has saved, where it can be. */
  readonly state?: Uint8Array | undefined;
  /** How its clients may answer DMA: on a machine where work must go on beside them they answer. */
  readonly answers: readonly AnswerWay[];
}

export interface Client {
  readonly c: number;
  target: Target | undefined;
  reference: Reference | undefined;
  nextId: number;
  way: AnswerWay;
  /** Actions until it answers rightly again. */
  strayFor: number;
  /** Its second stream has had what ends the connection, at some time or other. */
  doomed: boolean;
}

/** Who puts the steps of an episode together. */
export interface Speaker {
  readonly steps: Step[];
  send(client: Client, one: Outgoing, descriptors?: readonly DescriptorKind[], posted?: boolean): void;
  /** One client, or all. */
  settle(client?: Client): void;
  /** It answers rightly from here on, or is gone where it has left something unanswered. */
  comeBack(client: Client): void;
}

/** Asks for what there is, maps it, writes to it and signals it, and does to it what nobody should. */
export function useOffered(random: Random, c: number): Step {
  const how = random.weighted({
    signal: 40,
    again: 10,
    write: 40,
    map: 10,
    drain: 4,
    fill: 4,
    block: 2,
    shrink: 2,
    close: 3,
  });
  const isWork = random.chance(50);
  const at = isWork
    ? offers[WORK_REGION]!.memory!.offset + ENTRY_BYTES * random.below(ENTRIES)
    : random.below(OFFERED_FILE_BYTES - ENTRY_BYTES);
  return { do: 'use', c, how, number: random.below(64), at, bytes: workEntry(random) };
}

/** The second stream is for replies: whatever else comes there ends the connection, and so does its end. */
export function spoilTwin(random: Random, c: number, id: number): Step[] {
  const reply = message(11, dmaPayload(0n, 16), { id: UNASKED_ID, flags: HeaderFlag.typeReply });
  switch (random.below(5)) {
    case 0:
      return [{ do: 'twin-end', c }];
    case 1:
      return [
        { do: 'twin', c, bytes: reply.subarray(0, 1 + random.below(31)) },
        { do: 'twin-end', c },
      ];
    case 2:
      return [{ do: 'twin', c, bytes: toBytes(compose.deviceInfo(), id, random.chance(50)) }];
    case 3:
      return [{ do: 'twin', c, bytes: reply, descriptors: anyDescriptors(random, 1 + random.below(3)) }];
    default:
      return [{ do: 'twin', c, bytes: reply }];
  }
}

/** Interrupts that arrive: eventfds where the device's list of work asks for them, and the doorbell. */
export function interrupt(random: Random, client: Client, speaker: Speaker): void {
  const which = random.below(offeredInterrupts.length);
  const vectors = 1 + random.below(Math.min(EVENTFDS, offeredInterrupts[which]!.count));
  const eventfds = Array.from(
    { length: vectors },
    (): DescriptorKind => ({
      is: 'eventfd',
      number: random.below(EVENTFDS),
    }),
  );
  speaker.send(client, enable());
  speaker.send(client, compose.setIrqs(4 | 32, FIRST_OFFERED_INTERRUPT + which, 0, vectors), eventfds);
  for (let entries = 1 + random.below(4); entries > 0; entries--) {
    const vector = (which << 16) | random.below(vectors);
    const entry = ENTRY_BYTES * random.below(ENTRIES);
    speaker.send(client, compose.write(WORK_REGION, entry, workEntry(random, vector)), [], true);
  }
  speaker.send(client, compose.write(DOORBELL_REGION, 0, new Uint8Array(4)));
  speaker.settle(client);
}

/** As many regions by file I/O as there may be, and some more. */
export function fillWithFileIo(random: Random, client: Client, speaker: Speaker): void {
  const map = (page: number, flags: number, one: DescriptorKind, posted = false) =>
    speaker.send(client, compose.map(FILE_IO + BigInt(page) * 4096n, 4096n, 4096n, flags), [one], posted);
  const file: DescriptorKind = { is: 'file', file: 0 };
  const unmapAll = compose.unmap(0n, 0n, 2);
  speaker.send(client, unmapAll);
  for (let page = 0; page < MOST_FILE_IO; page++) {
    if (random.chance(50)) map(page, 9, { is: 'read-only', file: 0 }, page < MOST_FILE_IO - 4);
    else map(page, 11, file, page < MOST_FILE_IO - 4);
  }
  let next = MOST_FILE_IO;
  for (let more = 2 + random.below(4); more > 0; more--) map(next++, 11, file);
  // What can be reached otherwise is taken, and what would be refused anyway is refused.
  map(next++, 3, random.pick([file, { is: 'file', file: 2 }, { is: 'null' }]));
  map(next++, 11, random.pick<DescriptorKind>([{ is: 'directory' }, { is: 'memory-of-process' }]));
  speaker.send(client, compose.unmap(FILE_IO + BigInt(random.below(MOST_FILE_IO)) * 4096n, 4096n));
  map(next++, 11, file);
  map(next++, 11, file);
  speaker.send(client, unmapAll);
}

/** DMA that works, by an endpoint behind an IOMMU whose two clients are there. */
export function translate(random: Random, clients: readonly Client[], speaker: Speaker): void {
  const find = (names: readonly string[]) =>
    clients.find(
      ({ target, reference, doomed, way }) =>
        names.includes(target?.name ?? '') &&
        reference?.negotiated &&
        !reference.closed &&
        reference.partial === 0 &&
        !doomed &&
        way === 'right',
    );
  const pairs = (['vtd', 'dma-iommu'] as const).flatMap(kind => {
    const iommu = find([`${kind}/iommu`]);
    const edu = find([`${kind}/edu0`, `${kind}/edu1`]);
    return iommu === undefined || edu === undefined ? [] : [{ kind, iommu, edu }];
  });
  if (pairs.length === 0) return;
  const { kind, iommu, edu } = random.pick(pairs);
  // What a neighbour leaves unanswered holds up the work of the whole machine.
  for (const one of clients) {
    const isStuck = one.way !== 'right' || (one.reference?.partial ?? 0) > 0;
    if (isStuck && one.target?.name.startsWith(`${kind}/`)) speaker.comeBack(one);
  }
  speaker.settle();
  const file = kind === 'vtd' ? 4 : 5;
  speaker.steps.push({ do: 'restore', file });
  place(speaker, iommu, STRUCTURES, STRUCTURE_BYTES, file);
  place(speaker, edu, DATA, DATA_BYTES, 6);
  for (const client of [iommu, edu]) {
    speaker.send(client, compose.reset());
    speaker.settle(client);
  }
  // A reset goes on counting handles; the state from before anything was done has given out none.
  const { state } = iommu.target!;
  if (state !== undefined) for (const one of restoreRightly(state)) speaker.send(iommu, one);
  speaker.settle(iommu);
  for (const act of translationProgram(random, kind)) {
    if ('write' in act) speaker.steps.push({ do: 'write', file, at: act.at, bytes: act.write });
    else if ('settle' in act) speaker.settle(act.on === 'edu' ? edu : iommu);
    else speaker.send(act.on === 'edu' ? edu : iommu, act.send, [], act.posted);
  }
}

/** A file, or memory by messages, at just these addresses. */
function place(speaker: Speaker, client: Client, address: number, size: number, file: number): void {
  const [start, end] = [BigInt(address), BigInt(address + size)];
  const ranges = [...client.reference!.memory.mapped.values()].filter(
    one => one.address < end && start < one.address + one.size,
  );
  const isThere = ranges.length === 1 && ranges[0]!.address === start && ranges[0]!.size === BigInt(size);
  if (isThere && ranges[0]!.readable && ranges[0]!.writable) return;
  for (const one of ranges) speaker.send(client, compose.unmap(one.address, one.size));
  speaker.send(client, compose.map(start, BigInt(size), 0n, 3), [{ is: 'file', file }]);
}
