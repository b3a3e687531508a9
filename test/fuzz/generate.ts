/** Makes an episode from a seed: conversations over some connections at a time, mostly valid, and then something is wrong. */

import { dmaPayload, message } from '../../src/vfio-user/conformance/wire.ts';
import { HeaderFlag } from '../../src/vfio-user/spec.ts';
import { ENDING_ANSWERS } from './answers.ts';
import { tableWord } from './content.ts';
import { anyDescriptors, anyInterrupts, anyMapping } from './draw.ts';
import { compose, mutate, type Outgoing, strangeVersion, toBytes } from './messages.ts';
import { ioDescriptors, loggingProgram, manyWrites, migrationProgram } from './migrations.ts';
import { anyAccess, bringUp, driverProgram, enable, longAccess } from './programs.ts';
import { Random } from './random.ts';
import { Reference } from './reference.ts';
import { GOOD_VERSION, TWIN_VERSION } from './reference-version.ts';
import {
  type Client,
  fillWithFileIo,
  interrupt,
  type Speaker,
  spoilTwin,
  type Target,
  translate,
  UNASKED_ID,
  useOffered,
} from './special-actions.ts';
import { type DescriptorKind, type Episode, EVENTFDS, type FileDescription, type Step } from './steps.ts';
import { DATA_BYTES, STRUCTURE_BYTES } from './translations.ts';

export interface GenerateOptions {
  readonly seed: number;
  readonly number: number;
  readonly targets: readonly Target[];
  /** At the same time. */
  readonly clients: number;
  /** About so many. */
  readonly messages: number;
}

const MiB = 1048576;
/** Of a hundred: those that wait until they are answered. */
const PATIENT_PROGRAMS = 30;
/** Of a hundred connections: those with a second stream for what the server asks. */
const TWINS = 30;
/** Of a hundred actions with a device that offers: those that use what it offers. */
const USES = 25;
/** Of a hundred uses: those that end in an interrupt. */
const INTERRUPTS = 6;
/** Of a hundred times that it comes up. */
const FILLS = 30;
/** Contents of memory in a run: each takes as long to draw as many messages. */
const CONTENTS = 4;
export function generateEpisode(options: GenerateOptions): Episode {
  return new Generator(options).run();
}

class Generator implements Speaker {
  private readonly random: Random;
  readonly steps: Step[] = [];
  private readonly files: FileDescription[];
  /** As they are by now. */
  private readonly sizes: { bytes: number }[];
  private readonly clients: Client[];
  private messages = 0;

  constructor(private readonly options: GenerateOptions) {
    this.random = new Random(options.seed, options.number);
    const seed = 4 * (options.seed % 0x1000000) + this.random.below(CONTENTS);
    this.files = [
      { bytes: 4 * MiB, sealing: 'sealed', content: 'tables', seed },
      { bytes: 1 * MiB, sealing: 'sealable', content: 'commands', seed },
      { bytes: 2 * MiB, sealing: 'unsealable', content: 'tables', seed },
      { bytes: 65536, sealing: 'sealable', content: 'zeros', seed },
      { bytes: STRUCTURE_BYTES, sealing: 'sealed', content: 'vtd', seed },
      { bytes: STRUCTURE_BYTES, sealing: 'sealed', content: 'dma-iommu', seed },
      { bytes: DATA_BYTES, sealing: 'sealed', content: 'zeros', seed },
    ];
    this.sizes = this.files.map(({ bytes }) => ({ bytes }));
    this.clients = Array.from({ length: Math.min(options.clients, options.targets.length) }, (_, c) => ({
      c,
      target: undefined,
      reference: undefined,
      nextId: 1,
      way: 'right',
      strayFor: 0,
      doomed: false,
    }));
  }

  run(): Episode {
    const { random } = this;
    while (this.messages < this.options.messages) {
      const client = random.pick(this.clients);
      if (client.reference === undefined || client.reference.closed || client.doomed) this.connect(client);
      else this.act(client, client.reference, client.target!);
    }
    this.steps.push({ do: 'settle' });
    const { seed, number } = this.options;
    return { seed, number, files: this.files, steps: this.steps };
  }

  private connect(client: Client): void {
    const { random } = this;
    const { c } = client;
    // That the server ends it is to be seen, more often than not.
    if ((client.reference?.closed === true || client.doomed) && random.chance(85)) this.steps.push({ do: 'settle', c });
    if (client.reference !== undefined) this.steps.push({ do: 'hang-up', c });
    const taken = new Set(this.clients.filter(one => one !== client).map(({ target }) => target));
    client.target = random.pick(this.options.targets.filter(target => !taken.has(target)));
    client.reference = new Reference(client.target.facts, this.sizes);
    client.nextId = random.below(65536);
    client.way = 'right';
    client.strayFor = 0;
    client.doomed = false;
    this.steps.push({ do: 'connect', c, to: client.target.name });
    if (random.chance(2)) {
      this.send(client, anyAccess(random, client.target.kind));
      return;
    }
    const proposal = compose.version(random.chance(TWINS) ? TWIN_VERSION : GOOD_VERSION);
    this.send(client, random.chance(95) ? proposal : strangeVersion(random));
    if (client.reference.closed || random.chance(10)) return;
    this.send(client, enable());
    // With and without descriptors: memory that is mapped, and memory that is asked for.
    const files = random.chance(50);
    this.send(client, compose.map(0n, 4n * 1048576n, 0n, 3), files ? [{ is: 'file', file: 0 }] : []);
    if (random.chance(80)) {
      this.send(client, compose.map(0x400000n, 1048576n, 0n, 3), files ? [{ is: 'file', file: 1 }] : []);
    }
    if (random.chance(80)) {
      for (const one of bringUp(random, client.target.kind)) this.send(client, one, [], true);
      this.settle(client);
    }
  }

  private act(client: Client, reference: Reference, target: Target): void {
    const { random } = this;
    const { c } = client;
    if (client.strayFor > 0 && --client.strayFor === 0) {
      this.comeBack(client);
      return;
    }
    if (target.kind === 'offering' && random.chance(USES)) {
      if (random.chance(INTERRUPTS)) interrupt(random, client, this);
      else this.steps.push(useOffered(random, c));
      return;
    }
    if (reference.twin && random.chance(1)) {
      if (random.chance(60)) this.steps.push({ do: 'twin-read', c, reading: false });
      else {
        this.steps.push(...spoilTwin(random, c, client.nextId));
        client.doomed = true;
      }
      return;
    }
    switch (
      random.weighted({
        program: 340,
        access: 240,
        map: 60,
        unmap: 40,
        info: 40,
        interrupts: 40,
        wrong: 80,
        memory: 20,
        answer: 12,
        reply: 2,
        flood: 2,
        reset: 3,
        hangUp: 1,
        settle: 3,
        shrink: 1,
        signal: 10,
        long: 6,
        enable: 24,
        manyDescriptors: 1,
        migrate: 6,
        log: 8,
        many: 30,
        ioDescriptors: 3,
        translate: 10,
        fillWithFileIo: 1,
      })
    ) {
      case 'program':
        for (const one of driverProgram(random, target.kind)) this.send(client, one, [], random.chance(70));
        // What comes at once is taken at once, and work begins after it: a driver waits for what it has asked for.
        if (random.chance(PATIENT_PROGRAMS)) this.settle(client);
        return;
      case 'access':
        this.send(client, anyAccess(random, target.kind), [], random.chance(20));
        return;
      case 'enable':
        this.send(client, enable());
        return;
      case 'long':
        this.send(client, longAccess(random));
        return;
      case 'migrate':
        for (const one of migrationProgram(random, target.state)) this.send(client, one, [], random.chance(10));
        return;
      case 'log':
        for (const one of loggingProgram(random)) this.send(client, one);
        return;
      case 'many':
        this.send(client, manyWrites(random, target.kind), [], random.chance(70));
        return;
      case 'ioDescriptors':
        this.send(client, ioDescriptors(random));
        return;
      case 'translate':
        translate(random, this.clients, this);
        return;
      case 'fillWithFileIo':
        // It takes hundreds of messages.
        if (random.chance(FILLS)) fillWithFileIo(random, client, this);
        return;
      case 'map': {
        const [one, descriptors] = anyMapping(random);
        this.send(client, one, descriptors);
        return;
      }
      case 'unmap':
        this.send(client, this.unmapping(reference));
        return;
      case 'info':
        this.send(
          client,
          random.pick([compose.deviceInfo(), compose.regionInfo(random.below(10)), compose.irqInfo(random.below(6))]),
        );
        return;
      case 'interrupts': {
        const [one, descriptors] = anyInterrupts(random, target.kind === 'offering' ? 5 : 3);
        this.send(client, one, descriptors);
        return;
      }
      case 'reset':
        this.send(client, compose.reset(), [], random.chance(30));
        return;
      case 'wrong':
        this.sendWrong(client, target);
        return;
      case 'reply':
        this.sendReply(client);
        return;
      case 'flood':
        this.flood(client, target);
        return;
      case 'memory': {
        const file = random.below(this.files.length);
        const bytes = new Uint8Array(BigUint64Array.from({ length: 4 }, () => tableWord(random)).buffer);
        this.steps.push({ do: 'write', file, at: random.below((this.sizes[file]!.bytes || 64) - 32) & ~7, bytes });
        return;
      }
      case 'answer':
        client.way = random.pick(target.answers);
        client.strayFor = client.way === 'right' ? 0 : 1 + random.below(40);
        this.steps.push({ do: 'answer', c, way: client.way });
        return;
      case 'hangUp':
        this.hangUp(client);
        return;
      case 'settle':
        this.settle();
        return;
      case 'shrink':
        this.settle();
        this.steps.push({ do: 'shrink', file: 2, bytes: this.shrunk() });
        return;
      case 'signal':
        this.steps.push({ do: 'signal', number: random.below(EVENTFDS) });
        return;
      case 'manyDescriptors':
        this.send(client, compose.deviceInfo(), anyDescriptors(random, random.below(40)));
        return;
    }
  }

  /** One client, or all. */
  settle(client?: Client): void {
    this.steps.push(client === undefined ? { do: 'settle' } : { do: 'settle', c: client.c });
    for (const one of this.clients) if (client === undefined || one === client) one.reference?.settle();
  }

  private shrunk(): number {
    const size = this.sizes[2]!;
    size.bytes = Math.max(4096, size.bytes - 4096 * random16(this.random));
    return size.bytes;
  }

  send(client: Client, one: Outgoing, descriptors: readonly DescriptorKind[] = [], posted = false): void {
    const bytes = toBytes(one, client.nextId, posted);
    client.nextId = (client.nextId + 1) & 0xffff;
    this.put(client, bytes, descriptors);
  }

  private put(client: Client, bytes: Uint8Array, descriptors: readonly DescriptorKind[]): void {
    const { random } = this;
    client.reference!.push(bytes, descriptors);
    this.messages++;
    const with_ = descriptors.length > 0 ? { descriptors } : {};
    const cuts = random.chance(3) ? { cuts: this.cuts(bytes.length) } : {};
    const joined = descriptors.length === 0 && random.chance(92) ? { joined: true } : {};
    this.steps.push({ do: 'send', c: client.c, bytes, ...with_, ...cuts, ...joined });
  }

  /** Somewhere, or between all bytes. */
  private cuts(length: number): number[] {
    if (length < 100 && this.random.chance(20)) return Array.from({ length: length - 1 }, (_, i) => i + 1);
    const cuts = Array.from({ length: 1 + this.random.below(3) }, () => 1 + this.random.below(Math.max(1, length - 1)));
    return [...new Set(cuts)].filter(cut => cut < length).sort((a, b) => a - b);
  }

  private unmapping(reference: Reference): Outgoing {
    const { random } = this;
    if (random.chance(5)) return compose.unmap(0n, 0n, 2);
    const ranges = [...reference.memory.mapped.values()];
    if (ranges.length === 0 || random.chance(15)) {
      return compose.unmap(BigInt(random.below(256)) * 65536n, BigInt(1 + random.below(64)) * 4096n);
    }
    const { address, size } = random.pick(ranges);
    return compose.unmap(address, size);
  }

  private sendWrong(client: Client, target: Target): void {
    const { random } = this;
    let [good, descriptors] = anyMapping(random);
    if (random.chance(70)) {
      descriptors = [];
      good = random.pick([
        compose.deviceInfo(),
        compose.regionInfo(random.below(10)),
        compose.irqInfo(random.below(6)),
        this.unmapping(client.reference!),
        anyInterrupts(random)[0],
        anyAccess(random, target.kind),
        ...driverProgram(random, target.kind),
        ...loggingProgram(random),
        ...migrationProgram(random, target.state),
        manyWrites(random, target.kind),
        ioDescriptors(random),
        compose.reset(),
        random.chance(20) ? strangeVersion(random) : compose.irqInfo(1),
      ]);
    }
    const bytes = mutate(random, toBytes(good, client.nextId, false));
    client.nextId = (client.nextId + 1) & 0xffff;
    if (bytes.length > 0) this.put(client, bytes, descriptors);
  }

  /** To what nobody asked. */
  private sendReply(client: Client): void {
    const { random } = this;
    const command = random.chance(80) ? 11 + random.below(2) : random.below(20);
    const flags = HeaderFlag.typeReply | (random.chance(30) ? HeaderFlag.error : 0);
    const payload = dmaPayload(BigInt(random.word()), random.below(64));
    this.put(client, message(command, payload, { id: UNASKED_ID + random.below(0x8000), flags }), []);
  }

  /** Much, without reading the answers. */
  private flood(client: Client, target: Target): void {
    const { random } = this;
    const { c } = client;
    this.steps.push({ do: 'read', c, reading: false });
    const one = random.chance(10) ? compose.read(7, 0, 4096) : anyAccess(random, target.kind);
    const count = 50 + random.below(400);
    for (let i = 0; i < count && client.reference?.closed === false; i++) this.send(client, one);
    if (random.chance(20)) {
      this.hangUp(client);
      return;
    }
    this.steps.push({ do: 'read', c, reading: true });
  }

  /** What it has not answered at all holds up the work of its machine for as long as it is there. */
  comeBack(client: Client): void {
    // What follows a message that is not whole is taken for its rest, answers too.
    if (client.way === 'never' || (client.reference?.partial ?? 0) > 0) {
      this.hangUp(client);
      return;
    }
    // With the first such answer the server has ended the connection, which cannot be told from here: was there a request?
    if (ENDING_ANSWERS.has(client.way)) client.doomed = true;
    client.way = 'right';
    client.strayFor = 0;
    this.steps.push({ do: 'answer', c: client.c, way: 'right' });
  }

  private hangUp(client: Client): void {
    this.steps.push({ do: 'hang-up', c: client.c });
    client.reference = undefined;
    client.target = undefined;
  }
}

function random16(random: Random): number {
  return 1 + random.below(16);
}
