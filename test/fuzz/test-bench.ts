/** A process under test with its witnesses, on which episodes are done one after the other. */
import { SystemError } from '../../src/posix/errors.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { connectUnix } from '../../src/posix/socket.ts';
import { RegionInfo } from '../../src/vfio-user/spec.ts';
import { Descriptors } from './descriptors.ts';
import type { FunctionFacts } from './expectation.ts';
import { FuzzFailure } from './failure.ts';
import { machines } from './machines.ts';
import { offers } from './offers.ts';
import { Peer } from './peer.ts';
import { Random } from './random.ts';
import { Reference } from './reference.ts';
import type { ServerReport } from './server.ts';
import { type Health, ServerProcess } from './server-process.ts';
import type { Target } from './special-actions.ts';
import type { Episode, Step } from './steps.ts';
import type { Units } from './units.ts';
import { readFacts, readState, Witness } from './witness.ts';

/** Steps between two looks at what has come. */
const STEPS_PER_LOOK = 32;
/** Steps between two rounds of a witness. */
const STEPS_PER_WITNESS = 1000;
/** Silence of so long is a hang. Jobs may wait for a client's memory meanwhile, answers do not. */
export const PATIENCE_MS = 20_000;
const LOOK_MS = 10;
const REPORT_MS = 2;

export interface EpisodeCounts {
  readonly messages: number;
  readonly replies: number;
  readonly requests: number;
  /** Of them over second streams. */
  readonly twinRequests: number;
  /** Descriptors that the server gave. */
  readonly given: number;
  readonly connections: number;
  /** Ended by the server. */
  readonly ended: number;
  /** Reports of the process lacked something. */
  readonly dropped: number;
  readonly reasons: ReadonlyMap<string, number>;
}

export class TestBench {
  readonly targets: readonly Target[];
  private readonly witnesses: Witness[] = [];
  private readonly loop = new EventLoop(error => {
    this.failure ??= error;
  });
  private failure: unknown;
  /** What the machines have done since they were made. */
  units: Units = {};
  private nextWitness = 0;

  private constructor(readonly server: ServerProcess) {
    const targets: Target[] = [];
    for (const { name, functions, witness, witnessDoesDma, answers, offers: isOffering } of machines) {
      for (const [one, kind] of Object.entries(functions)) {
        const full = `${name}/${one}`;
        const socket = server.sockets[full]!;
        const facts = withOffers(readFacts(this.loop, socket), isOffering === true);
        const state = facts.migrates === true ? readState(this.loop, socket) : undefined;
        targets.push({ name: full, kind, facts, state, answers });
      }
      const place = `${name}/${witness}`;
      this.witnesses.push(new Witness(place, this.loop, server.sockets[place]!, witnessDoesDma));
    }
    this.targets = targets;
  }

  static async start(): Promise<TestBench> {
    const server = await ServerProcess.start();
    try {
      const bench = new TestBench(server);
      // What was said while the facts were read is nobody's.
      await bench.quiet();
      return bench;
    } catch (error) {
      server.kill();
      throw error;
    }
  }

  get witnessed(): number {
    return this.witnesses.reduce((sum, { done }) => sum + done, 0);
  }

  health(): Promise<Health> {
    return this.server.health();
  }

  /** Throws a FuzzFailure where the server does wrong. */
  async run(episode: Episode): Promise<EpisodeCounts> {
    const run = new EpisodeRun(this, episode);
    try {
      run.steps();
    } finally {
      run.close();
    }
    const report = await this.quiet();
    if (report.internalErrors.length > 0)
      throw new FuzzFailure(`internal error: ${report.internalErrors[0]}`, 'the server');
    this.units = report.units;
    run.compare(report);
    return { ...run.counts, dropped: report.dropped };
  }

  async stop(): Promise<void> {
    for (const witness of this.witnesses) witness.close();
    this.loop.close();
    await this.server.stop();
  }

  kill(): void {
    this.server.kill();
  }

  /** One round of the loop. */
  look(milliseconds: number): void {
    this.loop.runOnce(milliseconds);
    this.complain();
  }

  witness(doesDma: boolean): void {
    const witness = this.witnesses[this.nextWitness++ % this.witnesses.length]!;
    try {
      witness.work(doesDma);
    } catch (error) {
      this.complain();
      if (error instanceof FuzzFailure) throw error;
      throw new FuzzFailure(error instanceof Error ? error.message : String(error), 'a witness');
    }
    this.complain();
  }

  connect(name: string, reference: Reference, random: Random, descriptors: Descriptors): Peer {
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return new Peer({
          name,
          loop: this.loop,
          fd: connectUnix(this.server.sockets[name]!),
          reference,
          random,
          memory: (address, count) => descriptors.contentAt(address, count),
          keep: kept => descriptors.keep(kept),
          failed: failure => {
            this.failure ??= failure;
          },
        });
      } catch (error) {
        if (!(error instanceof SystemError)) throw error;
        if (error.code !== 'EAGAIN' || performance.now() > end) {
          throw new FuzzFailure(`cannot be connected to: ${error.message}`, name);
        }
        this.look(1);
      }
    }
  }

  private complain(): void {
    const { failure } = this;
    this.failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Once all fuzzed connections are gone: what was reported until then. */
  private async quiet(): Promise<ServerReport> {
    const end = performance.now() + PATIENCE_MS;
    const all: ServerReport[] = [];
    for (;;) {
      const report = await this.server.report();
      all.push(report);
      const busy = this.targets.find(({ name }) => {
        const { connected, regions } = report.functions[name]!;
        return connected || regions > 0;
      });
      if (busy === undefined) {
        return {
          closed: all.flatMap(({ closed }) => closed),
          internalErrors: all.flatMap(({ internalErrors }) => internalErrors),
          dropped: all.reduce((sum, { dropped }) => sum + dropped, 0),
          functions: report.functions,
          units: report.units,
        };
      }
      if (performance.now() > end) throw new FuzzFailure('a client that has hung up is still there', busy.name);
      await new Promise(resolve => setTimeout(resolve, REPORT_MS));
    }
  }
}

/** What a good client is told in one word, as it is: what is mapped and signalled comes on top of it. */
function withOffers(facts: FunctionFacts, isOffering: boolean): FunctionFacts {
  if (!isOffering) return facts;
  const regions = facts.regions.map(({ flags, size }, index) => {
    const { memory, ioEventFds } = offers[index] ?? {};
    return { flags: flags & (RegionInfo.read | RegionInfo.write), size, memory, ioEventFds };
  });
  return { ...facts, regions };
}

interface ConnectedPeer {
  readonly name: string;
  readonly peer: Peer;
}

class EpisodeRun {
  messages = 0;
  private replies = 0;
  private requests = 0;
  private connections = 0;
  private ended = 0;
  private twinRequests = 0;
  private given = 0;
  private readonly peers = new Map<number, ConnectedPeer>();
  /** By function: how its connections must have ended, one after the other. Undefined: by this side. */
  private readonly endings = new Map<string, (readonly string[] | undefined)[]>();
  private readonly descriptors: Descriptors;
  private readonly random: Random;

  constructor(
    private readonly bench: TestBench,
    private readonly episode: Episode,
  ) {
    this.descriptors = new Descriptors(episode.files);
    this.random = new Random(episode.number, episode.seed);
  }

  get counts() {
    const { messages, replies, requests, connections, ended, twinRequests, given } = this;
    const reasons = new Map<string, number>();
    for (const all of this.endings.values()) {
      for (const one of all) if (one?.[0] !== undefined) reasons.set(one[0], (reasons.get(one[0]) ?? 0) + 1);
    }
    return { messages, replies, requests, twinRequests, given, connections, ended, reasons };
  }

  steps(): void {
    this.episode.steps.forEach((step, number) => {
      this.step(step);
      if (number % STEPS_PER_LOOK === 0) this.bench.look(0);
      if (number % STEPS_PER_WITNESS === 0) {
        // One that waits for a client that does not answer waits for long, and that is as it should be.
        this.bench.witness([...this.peers.values()].every(({ peer }) => peer.attentive));
      }
    });
    this.settle();
    for (const c of [...this.peers.keys()]) this.hangUp(c);
  }

  close(): void {
    for (const { peer } of this.peers.values()) peer.close();
    this.descriptors.close();
  }

  /** What the server says of the connections that ended is what they saw. */
  compare({ closed, dropped }: ServerReport): void {
    if (dropped > 0) return;
    for (const [name, endings] of this.endings) {
      const said = closed.filter(one => one.name === name).map(({ reason }) => reason);
      if (said.length !== endings.length) {
        throw new FuzzFailure(`${endings.length} connections ended, and ${said.length} were reported`, name);
      }
      endings.forEach((reasons, i) => {
        if (reasons === undefined || reasons.length === 0 || reasons.includes(said[i]!)) return;
        throw new FuzzFailure(
          `a connection ended by '${said[i]}', which should have been '${reasons.join("' or '")}'`,
          name,
        );
      });
    }
  }

  private step(step: Step): void {
    switch (step.do) {
      case 'connect':
        this.connect(step.c, step.to);
        return;
      case 'hang-up':
        this.hangUp(step.c);
        return;
      case 'settle':
        this.settle(step.c);
        return;
      case 'shrink':
        if (this.isCertain) this.descriptors.shrink(step.file, step.bytes);
        return;
      case 'write':
        this.descriptors.write(step.file, step.at, step.bytes);
        return;
      case 'restore':
        this.descriptors.restore(step.file);
        return;
      case 'signal':
        this.descriptors.signal(step.number);
        return;
    }
    const peer = this.peers.get(step.c)?.peer;
    if (peer === undefined) return;
    if (step.do === 'use') peer.use(step.how, step.number, step.at, step.bytes);
    else if (step.do === 'twin') {
      const { bytes, descriptors: kinds = [] } = step;
      const descriptors = kinds.map(kind => this.descriptors.find(kind));
      peer.sendTwin(bytes, kinds, descriptors);
    } else if (step.do === 'twin-read') peer.readTwin(step.reading);
    else if (step.do === 'twin-end') peer.endTwin();
    else if (step.do === 'read') peer.read(step.reading);
    else if (step.do === 'answer') {
      peer.way = step.way;
      peer.answerLate();
    } else {
      const { bytes, descriptors = [], cuts, joined } = step;
      this.messages++;
      peer.send(
        bytes,
        descriptors,
        descriptors.map(kind => this.descriptors.find(kind)),
        cuts,
        joined,
      );
    }
  }

  private connect(c: number, name: string): void {
    this.hangUp(c);
    // What was taken out of an episode may leave two clients of one function.
    if ([...this.peers.values()].some(one => one.name === name)) return;
    const target = this.bench.targets.find(one => one.name === name);
    if (target === undefined) throw new Error(`no function is called ${name}`);
    const reference = new Reference(target.facts, this.descriptors.files);
    this.peers.set(c, { name, peer: this.bench.connect(name, reference, this.random, this.descriptors) });
    this.connections++;
  }

  private hangUp(c: number): void {
    const one = this.peers.get(c);
    if (one === undefined) return;
    this.peers.delete(c);
    const { name, peer } = one;
    if (peer.ended) this.ended++;
    this.replies += peer.replies;
    this.requests += peer.requests;
    this.twinRequests += peer.twinRequests;
    this.given += peer.given;
    const endings = this.endings.get(name) ?? [];
    endings.push(peer.ended ? peer.reasons : undefined);
    this.endings.set(name, endings);
    peer.close();
  }

  /** Everything was answered, and no message waits for its rest. */
  private get isCertain(): boolean {
    return [...this.peers.values()].every(({ peer }) => peer.settled && peer.reference.partial === 0);
  }

  private settle(c?: number): void {
    const peers = [...this.peers].filter(([one]) => c === undefined || one === c).map(([, peer]) => peer);
    for (const { peer } of peers) {
      peer.read(true);
      peer.flush();
      peer.answerLate();
    }
    const end = performance.now() + PATIENCE_MS;
    for (;;) {
      this.bench.look(0);
      const waiting = peers.find(({ peer }) => !peer.settled) ?? this.working(peers);
      if (waiting === undefined) break;
      if (performance.now() > end) {
        throw new FuzzFailure(`nothing within ${PATIENCE_MS} ms: ${waiting.peer.awaited}`, waiting.name);
      }
      for (const { peer } of peers) {
        peer.answerLate();
        peer.flush();
      }
      this.bench.look(LOOK_MS);
    }
    for (const { peer } of peers) if (peer.idle) peer.reference.settle();
  }

  /** A change of state is answered when the work under way is done, for which all must answer. */
  private working(peers: readonly ConnectedPeer[]): ConnectedPeer | undefined {
    if (![...this.peers.values()].every(({ peer }) => peer.attentive)) return undefined;
    return peers.find(({ peer }) => !peer.idle);
  }
}
