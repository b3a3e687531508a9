/** `npm run fuzz`: fuzzes the vfio-user server, with an oracle that knows what must come of every message. */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { FuzzFailure } from './failure.ts';
import { generateEpisode } from './generate.ts';
import { describeHealth, HEAP_GROWTH_KIB, type Health, leaks } from './server-process.ts';
import { shrink } from './shrink.ts';
import { type Episode, formatEpisode, parseEpisode, type Step } from './steps.ts';
import { TestBench } from './test-bench.ts';
import type { Units } from './units.ts';

const DEFAULT_MESSAGES = 200_000;
const MESSAGES_PER_EPISODE = 4000;
const SHRINK_ATTEMPTS = 200;
const PROGRESS_MS = 5000;
/**
 * How much the process may grow once it is warm. Five heaps are bounded by HEAP_MIB in server-process.ts, and V8 has a mapping of 256 KiB
 * for each piece of them: 54 MiB each is the most. What is alive says more: see `leaks`.
 */
const GROWTH = { descriptors: 0, mappings: 600, residentMiB: 270 } as const;
/** Episodes until it is. */
const WARM_EPISODES = 10;

const HELP = `Fuzzes the vfio-user server: conversations that are almost right, and an oracle that knows what must come of each message.

  npm run fuzz                                200,000 messages
  npm run fuzz -- --minutes 10 --seed 7
  npm run fuzz -- --replay fuzz-failure.json  what a failure has left

  --seed N        the run (default 1); the same seed sends the same messages
  --messages N    so many (default ${DEFAULT_MESSAGES})
  --minutes M     for so long instead
  --clients N     connections at a time, 1 to 8 (default 8: all functions)
  --episode N     only this episode of the seed
  --replay FILE   the steps in a file
  --failure FILE  where a failure leaves its steps, made as few as can be (default fuzz-failure.json)
  --no-shrink     leave them as they are
  --json          the result as JSON

Exit status: 0 where all went well, 1 where the server failed, 2 where the command makes no sense.
`;

/** Of each episode. */
const COUNTED = [
  'messages',
  'replies',
  'requests',
  'twinRequests',
  'given',
  'connections',
  'ended',
  'dropped',
] as const;

interface Totals {
  episodes: number;
  messages: number;
  replies: number;
  requests: number;
  twinRequests: number;
  given: number;
  connections: number;
  ended: number;
  dropped: number;
}

interface Options {
  readonly seed: number;
  readonly messages: number;
  readonly minutes: number | undefined;
  readonly clients: number;
  readonly episode: number | undefined;
  readonly failure: string;
  readonly shrinks: boolean;
  readonly json: boolean;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: '1' },
      messages: { type: 'string', default: String(DEFAULT_MESSAGES) },
      minutes: { type: 'string' },
      clients: { type: 'string', default: '8' },
      episode: { type: 'string' },
      replay: { type: 'string' },
      failure: { type: 'string', default: 'fuzz-failure.json' },
      'no-shrink': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.replay !== undefined) return await replay(values.replay);
  const optional = (name: string, text: string | undefined, most: number) =>
    text === undefined ? undefined : wholeNumber(name, text, 0, most);
  return await fuzz({
    seed: wholeNumber('seed', values.seed, 0, 0xffffffff),
    messages: wholeNumber('messages', values.messages, 1, 1e12),
    minutes: optional('minutes', values.minutes, 1e6),
    clients: wholeNumber('clients', values.clients, 1, 8),
    episode: optional('episode', values.episode, 0xffffffff),
    failure: resolve(values.failure),
    shrinks: !values['no-shrink'],
    json: values.json,
  });
}

async function fuzz(options: Options): Promise<number> {
  const { seed, clients, json } = options;
  const totals: Totals = {
    episodes: 0,
    messages: 0,
    replies: 0,
    requests: 0,
    twinRequests: 0,
    given: 0,
    connections: 0,
    ended: 0,
    dropped: 0,
  };
  const reasons = new Map<string, number>();
  const bench = await TestBench.start();
  const began = performance.now();
  const until = options.minutes === undefined ? Number.POSITIVE_INFINITY : began + options.minutes * 60_000;
  const wanted = options.minutes === undefined ? options.messages : Number.POSITIVE_INFINITY;
  const samples: Health[] = [await bench.health()];
  let told = began;
  let interrupted = false;
  process.once('SIGINT', () => {
    interrupted = true;
  });
  let number = options.episode ?? 0;
  try {
    while (totals.messages < wanted && performance.now() < until && !interrupted) {
      const messages = Math.min(MESSAGES_PER_EPISODE, Math.max(100, wanted - totals.messages));
      const episode = generateEpisode({
        seed,
        number,
        targets: bench.targets,
        clients,
        messages: options.episode === undefined ? messages : MESSAGES_PER_EPISODE,
      });
      try {
        const counts = await bench.run(episode);
        totals.episodes++;
        for (const key of COUNTED) totals[key] += counts[key];
        for (const [reason, count] of counts.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
        samples.push(await bench.health());
        checkHealth(samples);
      } catch (error) {
        if (!(error instanceof FuzzFailure)) throw error;
        bench.kill();
        await tellFailure(error, episode, options);
        return 1;
      }
      number++;
      if (options.episode !== undefined) break;
      if (!json && performance.now() - told > PROGRESS_MS) {
        told = performance.now();
        const rate = totals.messages / ((told - began) / 1000);
        console.log(
          `${totals.messages} messages, ${rate.toFixed(0)} a second, ${totals.connections} connections; ${describeHealth(samples.at(-1)!)}`,
        );
      }
    }
    const seconds = (performance.now() - began) / 1000;
    const health = {
      first: samples[0]!,
      warm: samples[Math.min(WARM_EPISODES, samples.length - 1)]!,
      last: samples.at(-1)!,
    };
    const result = {
      seed,
      ...totals,
      seconds: Math.round(seconds * 10) / 10,
      messagesPerSecond: Math.round(totals.messages / seconds),
      witnessRounds: bench.witnessed,
      health,
      units: bench.units,
      endings: Object.fromEntries([...reasons].sort((a, b) => b[1] - a[1])),
    };
    if (json) console.log(JSON.stringify(result, undefined, 2));
    else tell(result);
    return 0;
  } finally {
    if (bench.server.ended === undefined) await bench.stop();
  }
}

function tell(result: {
  readonly messages: number;
  readonly seconds: number;
  readonly messagesPerSecond: number;
  readonly replies: number;
  readonly requests: number;
  readonly twinRequests: number;
  readonly given: number;
  readonly connections: number;
  readonly ended: number;
  readonly witnessRounds: number;
  readonly health: { readonly first: Health; readonly warm: Health; readonly last: Health };
  readonly units: Units;
  readonly endings: Readonly<Record<string, number>>;
}): void {
  console.log(`${result.messages} messages in ${result.seconds} s (${result.messagesPerSecond} a second), all as they must be
  replies checked   ${result.replies}
  DMA requests      ${result.requests}, ${result.twinRequests} of them over second streams
  descriptors given ${result.given}
  connections       ${result.connections}, ${result.ended} of them ended by the server
  witness rounds    ${result.witnessRounds}
  server, at first  ${describeHealth(result.health.first)}
          warm      ${describeHealth(result.health.warm)}
          at last   ${describeHealth(result.health.last)}`);
  for (const [what, count] of Object.entries({ ...result.units, ...result.endings }))
    console.log(`  ${String(count).padStart(12)}  ${what}`);
}

/** The last sample against the one when it was warm. */
function checkHealth(samples: readonly Health[]): void {
  const warm = samples[WARM_EPISODES];
  const last = samples.at(-1)!;
  if (last.descriptors > samples[0]!.descriptors + GROWTH.descriptors) {
    throw new FuzzFailure(
      `${last.descriptors} descriptors are open, ${samples[0]!.descriptors} were at first`,
      'the server',
    );
  }
  if (warm === undefined) return;
  for (const name of ['mappings', 'residentMiB'] as const) {
    if (last[name] > warm[name] + GROWTH[name]) {
      throw new FuzzFailure(`${name} grew from ${warm[name]} to ${last[name]}`, 'the server');
    }
  }
  const [leak] = leaks(warm, last, HEAP_GROWTH_KIB);
  if (leak !== undefined) throw new FuzzFailure(leak, 'the server');
}

async function tellFailure(failure: FuzzFailure, episode: Episode, options: Options): Promise<void> {
  console.error(`FAILED: ${failure.message}`);
  console.error(
    `  seed ${episode.seed}, episode ${episode.number} of ${MESSAGES_PER_EPISODE} messages: npm run fuzz -- --seed ${episode.seed} --episode ${episode.number} --clients ${options.clients}`,
  );
  let smallest = episode;
  if (options.shrinks) {
    const steps = await shrinkSteps(episode);
    if (steps === undefined) console.error('  it did not fail again: it depends on time, or on what came before');
    else {
      smallest = { ...episode, steps };
      console.error(`  ${steps.length} of ${episode.steps.length} steps are enough:`);
      for (const step of steps.slice(-20)) console.error(`    ${describeStep(step)}`);
    }
  }
  writeFileSync(options.failure, formatEpisode(smallest));
  console.error(`  again: npm run fuzz -- --replay ${options.failure}`);
}

async function shrinkSteps(episode: Episode): Promise<readonly Step[] | undefined> {
  if ((await tryEpisode(episode)) === undefined) return undefined;
  return await shrink(
    episode.steps,
    async steps => (await tryEpisode({ ...episode, steps })) !== undefined,
    SHRINK_ATTEMPTS,
  );
}

/** On a server of its own. Why it failed, where it did. */
async function tryEpisode(episode: Episode): Promise<FuzzFailure | undefined> {
  const bench = await TestBench.start();
  try {
    const before = await bench.health();
    await bench.run(episode);
    checkHealth([before, await bench.health()]);
    await bench.stop();
    return undefined;
  } catch (error) {
    bench.kill();
    if (error instanceof FuzzFailure) return error;
    throw error;
  }
}

async function replay(file: string): Promise<number> {
  const episode = parseEpisode(readFileSync(file, 'utf8'));
  const failure = await tryEpisode(episode);
  console.log(
    failure === undefined ? `${episode.steps.length} steps: all as they must be` : `FAILED: ${failure.message}`,
  );
  return failure === undefined ? 0 : 1;
}

function describeStep(step: Step): string {
  if (step.do !== 'send')
    return JSON.stringify(step, (_, value) => (value instanceof Uint8Array ? `${value.length} bytes` : value));
  const { c, bytes, descriptors = [], cuts = [] } = step;
  const text = Buffer.from(bytes.subarray(0, 64)).toString('hex');
  const with_ = descriptors.length > 0 ? ` with ${descriptors.map(({ is }) => is).join(', ')}` : '';
  return `send ${c}: ${text}${bytes.length > 64 ? `... (${bytes.length} bytes)` : ''}${with_}${cuts.length > 0 ? ` cut at ${cuts.join(', ')}` : ''}`;
}

function wholeNumber(name: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (/^[0-9]+$/.test(text) && number >= least && number <= most) return number;
  console.error(`fuzz: --${name} ${text} is not a whole number from ${least} to ${most}`);
  process.exit(2);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Error) || !('code' in error) || !String(error.code).startsWith('E')) throw error;
  console.error(`fuzz: ${error.message}`);
  process.exitCode = 2;
}
