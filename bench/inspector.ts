/**
 * What the inspector's page costs a machine whose device makes transfers without a pause: with the page open in a browser beside the same
 * without. Once with the device thread on a processor that it shares with its client only, so that what is measured is what the device
 * thread pays; and once with everything on all processors, where the browser takes its time from everybody.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { type Browser, chromium, type Page } from 'playwright-core';
import { packagePath } from './native.ts';
import { type BenchResult, result } from './result.ts';

const ROUNDS = 6;
const WARM_UP_ROUNDS = 1;
const ROUND_MS = 1200;
/** Of the speed without the page. */
const GOAL = 0.95;
const DEVICE_PROCESSOR = '0';
const OTHER_PROCESSOR = '1';
const BROWSERS = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
const BLANK = 'about:blank';
/** Records in the page before it counts as open and following. */
const FOLLOWS = 1000;

interface Rig {
  readonly server: ChildProcess;
  readonly load: ChildProcess;
  readonly answers: Interface;
  readonly url: string;
  readonly page: Page;
}

/** Nanoseconds for each transfer: by the clock, and of the device thread's own time. */
interface Round {
  readonly clock: number;
  readonly thread: number;
}

export async function benchInspector(): Promise<BenchResult[]> {
  const program = findBrowser();
  if (program === undefined) {
    console.error('inspector: there is no Chromium on PATH or in VIOMMU_CHROMIUM, so the page cannot be measured');
    return [];
  }
  const processors = availableParallelism();
  const directory = mkdtempSync(join(tmpdir(), 'viommu-bench-'));
  const own = affinity();
  const children: ChildProcess[] = [];
  let browser: Browser | undefined;
  try {
    // All that is started from here on keeps off the device thread's processor.
    if (processors > 1) pin('-ap', OTHER_PROCESSOR, process.pid);
    const server = startNode(
      packagePath('dist', 'src', 'cli', 'main.js'),
      'serve',
      '--json',
      '--dir',
      directory,
      '--device',
      'edu@01:00.0',
      '--inspect',
    );
    children.push(server);
    const { page: url } = JSON.parse(await firstLine(server)) as { page: string };
    const load = startNode(packagePath('dist', 'bench', 'inspector-load.js'), directory);
    children.push(load);
    const answers = createInterface(load.stdout!);
    await once(answers, 'line');
    const asRoot = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
    browser = await chromium.launch({ executablePath: program, args: asRoot });
    const rig: Rig = { server, load, answers, url, page: await browser.newPage() };
    const apart = processors > 1 ? await measureApart(rig) : [];
    return [...apart, ...(await measureTogether(rig, processors))];
  } finally {
    await browser?.close();
    for (const child of children) await end(child);
    pin('-ap', own, process.pid);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function measureApart(rig: Rig): Promise<BenchResult[]> {
  pin('-ap', DEVICE_PROCESSOR, rig.load.pid!);
  await round(rig);
  pin('-p', DEVICE_PROCESSOR, deviceThread(rig.server.pid!));
  const { none, trace, overview } = await interleaved(rig);
  const clock = (rounds: readonly Round[]) => rounds.map(one => one.clock);
  const thread = (rounds: readonly Round[]) => rounds.map(one => one.thread);
  return [
    result('DMA, trace open on the other processor', 'ns', clock(trace), clock(none), GOAL),
    result('DMA, overview open on the other processor', 'ns', clock(overview), clock(none), GOAL),
    result("the same, device thread's own time, trace", 'ns', thread(trace), thread(none)),
    result("the same, device thread's own time, overview", 'ns', thread(overview), thread(none)),
  ];
}

async function measureTogether(rig: Rig, processors: number): Promise<BenchResult[]> {
  const all = `0-${processors - 1}`;
  for (const pid of [rig.server.pid!, rig.load.pid!, process.pid, ...descendants(process.pid)]) pin('-ap', all, pid);
  const { none, trace, overview } = await interleaved(rig);
  const clock = (rounds: readonly Round[]) => rounds.map(one => one.clock);
  const where = `browser on the same ${processors} processors`;
  return [
    result(`DMA, trace, ${where}`, 'ns', clock(trace), clock(none)),
    result(`DMA, overview, ${where}`, 'ns', clock(overview), clock(none)),
  ];
}

async function interleaved(rig: Rig): Promise<{ none: Round[]; trace: Round[]; overview: Round[] }> {
  const rounds = { none: [] as Round[], trace: [] as Round[], overview: [] as Round[] };
  for (let n = -WARM_UP_ROUNDS; n < ROUNDS; n++) {
    for (const view of ['none', 'trace', 'overview'] as const) {
      await show(rig, view);
      const measured = await round(rig);
      if (n >= 0) rounds[view].push(measured);
    }
  }
  return rounds;
}

/** Comes back when the page is there and shows what the machine does. */
async function show(rig: Rig, view: 'none' | 'trace' | 'overview'): Promise<void> {
  const { page, url } = rig;
  await page.goto(BLANK);
  if (view === 'none') return;
  await page.goto(`${url}#/${view}`);
  await page.locator('[data-testid=connection][data-state=open]').waitFor();
  if (view === 'overview') {
    await page.getByTestId('device-edu0').waitFor();
    return;
  }
  const records = () =>
    page.evaluate(
      () => (globalThis as unknown as { viommu: { state: { records: { count: number } } } }).viommu.state.records.count,
    );
  while ((await records()) < FOLLOWS) await round(rig);
}

async function round({ server, load, answers }: Rig): Promise<Round> {
  const before = deviceThreadTime(server.pid!);
  load.stdin!.write(`${ROUND_MS}\n`);
  const [line] = (await once(answers, 'line')) as [string];
  const [transfers = Number.NaN, nanoseconds = Number.NaN] = line.split(' ').map(Number);
  const spent = deviceThreadTime(server.pid!) - before;
  return { clock: nanoseconds / transfers, thread: spent / transfers };
}

/** The thread that used most time, besides the main one: it serves the devices. */
function deviceThread(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`)
    .map(Number)
    .filter(thread => thread !== pid);
  return threads.reduce((most, thread) => (threadTime(pid, thread) > threadTime(pid, most) ? thread : most));
}

function deviceThreadTime(pid: number): number {
  return threadTime(pid, deviceThread(pid));
}

/** Nanoseconds on a processor. */
function threadTime(pid: number, thread: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
}

/** Processes below this one. */
function descendants(pid: number): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
  if (children === '') return [];
  return children
    .split(' ')
    .map(Number)
    .flatMap(child => [child, ...descendants(child)]);
}

/** `-p`: one thread; `-ap`: all of a process. */
function pin(what: '-p' | '-ap', processors: string, pid: number): void {
  execFileSync('taskset', [what.replace('p', 'cp'), processors, String(pid)], { stdio: 'ignore' });
}

function affinity(): string {
  return /:\s*(\S+)\s*$/.exec(execFileSync('taskset', ['-cp', String(process.pid)], { encoding: 'utf8' }))![1]!;
}

function startNode(...args: string[]): ChildProcess {
  return spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
}

async function firstLine(child: ChildProcess): Promise<string> {
  const lines = createInterface(child.stdout!);
  const ended = once(child, 'exit').then(() => {
    throw new Error('the server ended before it was ready');
  });
  const [line] = (await Promise.race([once(lines, 'line'), ended])) as [string];
  ended.catch(() => {});
  return line;
}

async function end(child: ChildProcess): Promise<void> {
  const running = child.exitCode === null && child.signalCode === null;
  child.kill('SIGTERM');
  if (running) await once(child, 'exit');
}

function findBrowser(): string | undefined {
  const directories = (process.env.PATH ?? '').split(delimiter).filter(one => one !== '');
  const paths = directories.flatMap(directory => BROWSERS.map(name => join(directory, name)));
  return [process.env.VIOMMU_CHROMIUM ?? '', ...paths].find(path => {
    try {
      accessSync(path, constants.X_OK);
      return path !== '';
    } catch {
      return false;
    }
  });
}
