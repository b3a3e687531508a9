/** `npm run soak`: clients come and go, registers are read and written, and the process stays as small as it was. */
import { parseArgs } from 'node:util';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { GuestFunction } from '../../src/testing/guest-function.ts';
import { GuestRam } from '../../src/testing/guest-memory.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { describeHealth, type Health, leaks, ServerProcess, THREADS } from './server-process.ts';

const DEFAULT_CYCLES = 10_000;
const DEFAULT_ACCESSES = 1_000_000;
const FUNCTION = 'none/edu0';
const BAR = 0;
const Edu = { liveness: 0x04, source: 0x80, destination: 0x88, count: 0x90, command: 0x98 } as const;
const EDU_BUFFER = 0x40000n;
const BYTES = 4096;
const PATIENCE_MS = 30_000;
const SAMPLES = 10;
/** How much may come on top of what the process was after the first tenth. */
const GROWTH = { descriptors: 0, mappings: 200, residentMiB: 96 } as const;

/** Of a thread's live heap, in KiB: the same is done over and over, so that there is next to nothing. */
const HEAP_GROWTH_KIB = Object.fromEntries(THREADS.map(thread => [thread, 768]));

const HELP = `Clients connect, use the server and go, then one reads and writes registers; the process must not grow.

  npm run soak                                  ${DEFAULT_CYCLES} clients, ${DEFAULT_ACCESSES} accesses
  npm run soak -- --cycles 500 --accesses 50000

  --cycles N     clients one after the other (default ${DEFAULT_CYCLES})
  --accesses N   register accesses, one round trip each (default ${DEFAULT_ACCESSES})
  --json         the result as JSON

Exit status: 0 where it stayed as it was, 1 where it grew or answered wrongly.
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      cycles: { type: 'string', default: String(DEFAULT_CYCLES) },
      accesses: { type: 'string', default: String(DEFAULT_ACCESSES) },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const cycles = wholeNumber('cycles', values.cycles);
  const accesses = wholeNumber('accesses', values.accesses);
  const server = await ServerProcess.start();
  const ram = new GuestRam(4 * 1048576);
  const loop = new EventLoop(error => {
    throw error;
  });
  const say = (what: string, done: number, health: Health) => {
    if (values.json) return;
    console.log(`${String(done).padStart(8)} ${what}  ${describeHealth(health)}`);
  };
  try {
    const socket = server.sockets[FUNCTION]!;
    const inCycles = await sampled(
      cycles,
      server,
      (from, to) => {
        for (let i = from; i < to; i++) cycle(loop, socket, ram, i);
      },
      (done, health) => say('clients ', done, health),
    );
    const edu = new GuestFunction(FUNCTION, loop, socket, ram);
    const inAccesses = await sampled(
      accesses,
      server,
      (from, to) => {
        for (let i = from; i < to; i += 2) access(edu, i);
      },
      (done, health) => say('accesses', done, health),
    );
    edu.close();
    const { internalErrors } = await server.report();
    const problems = [...internalErrors, ...grown('clients', inCycles), ...grown('accesses', inAccesses)];
    if (values.json) console.log(JSON.stringify({ cycles, accesses, inCycles, inAccesses, problems }, undefined, 2));
    else console.log(problems.length === 0 ? 'it stayed as it was' : `FAILED: ${problems.join('; ')}`);
    return problems.length === 0 ? 0 : 1;
  } finally {
    ram.close();
    loop.close();
    await server.stop();
  }
}

/** In parts, with a look at the process after each, once the server has seen the last client go. */
async function sampled(
  count: number,
  server: ServerProcess,
  work: (from: number, to: number) => void,
  say: (done: number, health: Health) => void,
): Promise<Health[]> {
  const samples: Health[] = [];
  for (let part = 0; part < SAMPLES; part++) {
    const to = Math.floor((count * (part + 1)) / SAMPLES);
    work(Math.floor((count * part) / SAMPLES), to);
    await server.report();
    const health = await server.health();
    samples.push(health);
    say(to, health);
  }
  return samples;
}

/** Sometimes in the middle of a message, or of DMA. */
function cycle(loop: EventLoop, socket: string, ram: GuestRam, number: number): void {
  if (number % 4 === 3) {
    const client = new VfioUserClient(loop, socket);
    client.negotiate();
    client.sendRaw(Uint8Array.of(1, 0, 9, 0, 32));
    client.close();
    return;
  }
  const edu = new GuestFunction(FUNCTION, loop, socket, ram);
  try {
    access(edu, number);
    const from = 0x10000n;
    ram.write32(from, number);
    startTransfer(edu, from, EDU_BUFFER, 1);
    if (number % 4 === 2) return;
    if (!loop.waitUntil(() => (edu.read32(BAR, Edu.command) & 1) === 0, PATIENCE_MS)) {
      throw new Error(`DMA was not done within ${PATIENCE_MS} ms`);
    }
  } finally {
    edu.close();
  }
}

function startTransfer(edu: GuestFunction, source: bigint, destination: bigint, command: number): void {
  edu.write64(BAR, Edu.source, source);
  edu.write64(BAR, Edu.destination, destination);
  edu.write64(BAR, Edu.count, BigInt(BYTES));
  edu.write32(BAR, Edu.command, command);
}

/** A write and a read. */
function access(edu: GuestFunction, number: number): void {
  const word = Math.imul(number + 1, 0x9e3779b1) >>> 0;
  edu.write32(BAR, Edu.liveness, word);
  const read = edu.read32(BAR, Edu.liveness);
  if (read !== ~word >>> 0) throw new Error(`liveness is 0x${read.toString(16)} after 0x${word.toString(16)}`);
}

function grown(what: string, samples: readonly Health[]): string[] {
  const warm = samples[1]!;
  const last = samples.at(-1)!;
  const outside = (['descriptors', 'mappings', 'residentMiB'] as const)
    .filter(name => last[name] > warm[name] + GROWTH[name])
    .map(name => `${name} grew with ${what} from ${warm[name]} to ${last[name]}`);
  return [...outside, ...leaks(warm, last, HEAP_GROWTH_KIB).map(leak => `with ${what} ${leak}`)];
}

function wholeNumber(name: string, text: string): number {
  if (/^[1-9][0-9]{1,8}$/.test(text)) return Number(text);
  console.error(`soak: --${name} ${text} is not a whole number of at least ${SAMPLES}`);
  process.exit(2);
}

process.exitCode = await main();
