/** Guests whose machine is behind a network: over TLS, on a slow line, and on one that breaks. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { judgeKernelLog } from '../../src/cli/kernel-log.ts';
import { RemoteMachine } from '../../src/inspector/remote-client.ts';
import { readRemoteFile } from '../../src/inspector/remote-file.ts';
import { checkDescription } from '../../src/machine/description.ts';
import { selfSigned } from '../inspector/certificate.ts';
import { type Outcome, type RunningProgram, runProgram, startProgram } from '../support.ts';
import { CuttingProxy } from '../vfio-user/websocket/cutting-proxy.ts';
import { type ServedGuest, startGuestOn, temporaryDirectory } from './support.ts';

/** Added to all that the server sends, as `tc qdisc add ... netem delay` does on its side. */
const SLOW_LINE_MS = 50;
/**
 * On the slow line each access to a register takes as long as the way there and back, so one case stands for all. All of them, which
 * takes five minutes: `VIOMMU_SLOW_LINE=all npx vitest run --project guest test/guest/bridge.test.ts -t slow`.
 */
const SLOW_LINE_CASES = process.env.VIOMMU_SLOW_LINE === 'all' ? [] : ['device-writes'];
const SLOW_LINE_TIMEOUT_MS = 900_000;
/** Of a guest whose DMA has stopped nothing more is heard. */
const PATIENCE = { timeout: 240_000 };
const CASES = ['device-writes', 'use-after-unmap'];
/** Of one run of many, and of one that is never to end by itself. */
const SOAK_SECONDS = 3;
const ENDLESS_SECONDS = 1000;
const CUTS = 8;
/** No message but one of DMA with its data is so long. */
const DMA_BYTES = 1024;
/** Messages with so much data that pass between two cuts. */
const SPARED = 6;
/** Functions of the machine, each with a connection of its own. */
const FUNCTIONS = 3;
/** After so many vain attempts a line that is away is let come back. */
const VAIN_ATTEMPTS = 6;

let directory: ReturnType<typeof temporaryDirectory>;
const temporary: string[] = [];
const proxies: CuttingProxy[] = [];
const servers: RunningProgram[] = [];
const before = process.env.TMPDIR;

beforeAll(() => {
  directory = temporaryDirectory();
  // Everything temporary of the programs, so that what they leave is seen.
  temporary.push(mkdtempSync(join(directory.path, 't')));
  process.env.TMPDIR = temporary[0];
});
afterEach(() => expect(readdirSync(temporary[0]!)).toEqual([]));
afterAll(async () => {
  if (before === undefined) delete process.env.TMPDIR;
  else process.env.TMPDIR = before;
  for (const proxy of proxies) await proxy.close();
  for (const server of servers) {
    server.child.kill('SIGTERM');
    await server.ended;
  }
  directory?.remove();
});

/** Gives the address of `viommu serve ...` in this directory. */
async function serve(place: string, ...flags: string[]): Promise<string> {
  const server = startProgram(['serve', '--dir', place, '--listen', '127.0.0.1:0', ...flags]);
  servers.push(server);
  await server.says(/^ready/m);
  return readRemoteFile(place)!.url;
}

async function proxyTo(url: string): Promise<CuttingProxy> {
  const proxy = await CuttingProxy.start({ port: Number(new URL(url).port) });
  proxies.push(proxy);
  return proxy;
}

interface Report {
  readonly passed: boolean;
  readonly rounds: readonly { readonly cases: readonly { readonly name: string; readonly outcome: string }[] }[];
  readonly statistics: { readonly functions: Readonly<Record<string, { readonly memory: Record<string, number> }>> };
}

function reportOf(outcome: Outcome): Report {
  if (outcome.stdout === '') throw new Error(outcome.stderr);
  return JSON.parse(outcome.stdout);
}

function outcomes({ rounds }: Report): string[] {
  return rounds.flatMap(({ cases }) => cases.map(({ name, outcome }) => `${outcome} ${name}`));
}

/** What QEMU said, but for what it says of every vfio-user device: it has no error recovery. */
function complaints(stderr: string): string[] {
  return stderr
    .split('\n')
    .filter(line => line !== '' && !line.endsWith('Could not enable error recovery for the device'));
}

const chosen = (cases: readonly string[]) => cases.flatMap(name => ['--case', name]);

describe('demo --server, over TLS', () => {
  let url: string;
  let certificate: string;

  beforeAll(async () => {
    const { cert, key } = selfSigned();
    certificate = join(directory.path, 'cert.pem');
    const keyFile = join(directory.path, 'key.pem');
    writeFileSync(certificate, cert);
    writeFileSync(keyFile, key, { mode: 0o600 });
    url = await serve(join(directory.path, 'tls'), '--on-demand', '--tls-cert', certificate, '--tls-key', keyFile);
    expect(url).toMatch(/^wss:/);
  });

  it('passes with the certificate that --ca names', async () => {
    const outcome = await runProgram(['demo', '--json', ...chosen(CASES), '--server', url, '--ca', certificate]);
    const report = reportOf(outcome);
    expect(outcomes(report)).toEqual(CASES.map(name => `PASS ${name}`));
    expect({ status: outcome.status, passed: report.passed }).toEqual({ status: 0, passed: true });
    expect(report.statistics.functions.edu0!.memory).toMatchObject({ directBytesWritten: 0 });
  });

  it('says what to do without it', async () => {
    const { status, stderr } = await runProgram(['demo', ...chosen(CASES), '--server', url]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/no machine from the server wss:.*self-signed.*Give the certificate to trust: --ca FILE/s);
  });
});

describe('demo --server', () => {
  let proxy: CuttingProxy;
  let address: string;

  beforeAll(async () => {
    const url = await serve(join(directory.path, 'leased'), '--on-demand');
    proxy = await proxyTo(url);
    address = `ws://127.0.0.1:${proxy.port}`;
  });

  it(`passes on a slow line, ${SLOW_LINE_MS} ms long`, { timeout: SLOW_LINE_TIMEOUT_MS }, async () => {
    proxy.delay(SLOW_LINE_MS, 'to-client');
    const outcome = await runProgram(['demo', '--json', ...chosen(SLOW_LINE_CASES), '--server', address]);
    proxy.delay(0);
    const report = reportOf(outcome);
    const ran = outcomes(report);
    expect(ran.filter(text => !text.startsWith('PASS '))).toEqual([]);
    if (SLOW_LINE_CASES.length > 0) expect(ran).toEqual(SLOW_LINE_CASES.map(name => `PASS ${name}`));
    expect({ status: outcome.status, passed: report.passed }).toEqual({ status: 0, passed: true });
  });

  it('ends, says why and leaves nothing where the line breaks in the middle of DMA and stays broken', async () => {
    const demo = startProgram(['demo', '--server', address, '--grace', '1']);
    await demo.says(/PASS {2}device-reads/);
    await proxy.cutInside(DMA_BYTES, 'to-client');
    proxy.refuse();
    const { status, stderr, stdout } = await demo.ended;
    proxy.allow();
    expect(status).toBe(1);
    expect(stderr).toContain(`the machine is gone, and with it the guest's devices: the server ${address}`);
    expect(stdout).not.toMatch(/cases passed/);
  });
});

describe('bridge', () => {
  let proxy: CuttingProxy;
  let url: string;
  let bridge: RunningProgram;
  let guest: ServedGuest;

  beforeAll(async () => {
    const served = join(directory.path, 'served');
    const bridged = join(directory.path, 'bridged');
    mkdirSync(bridged);
    url = await serve(served, '--device', 'edu@01:00.0', '--device', 'edu@02:00.0');
    proxy = await proxyTo(url);
    bridge = startProgram(['bridge', '--dir', bridged, '--connect', `ws://127.0.0.1:${proxy.port}`]);
    await bridge.says(/^ready/m);
    const args = await runProgram(['qemu-args', '--dir', bridged]);
    expect(args.status, args.stderr).toBe(0);
    const description = checkDescription(JSON.parse(readFileSync(join(bridged, 'machine.json'), 'utf8')));
    guest = await startGuestOn(bridged, description, readRegisterBase(readFileSync(join(bridged, 'dmar.aml'))));
    // QEMU's own files are there as long as it is.
    temporary.unshift(mkdtempSync(join(directory.path, 't')));
    process.env.TMPDIR = temporary[0];
  });

  afterAll(async () => {
    guest?.agent.close();
    // May be called again.
    await guest?.qemu.quit();
    bridge?.child.kill('SIGTERM');
    await bridge?.ended;
    expect(readdirSync(temporary.pop()!)).toEqual([]);
  });

  const count = (kind: string) => bridge.stdout().split(`] ${kind} `).length - 1;

  async function until(kind: string, times: number): Promise<void> {
    await expect.poll(() => count(kind), { timeout: 60_000 }).toBe(times);
  }

  /** Random correct use of the devices, one run after the other until told to stop; gives the number of transfers. */
  async function soak(over: () => boolean): Promise<number> {
    let transfers = 0;
    for (let seed = 7; !over(); seed++) {
      const command = `dma-soak --seconds ${SOAK_SECONDS} --seed ${seed} --json`;
      const { status, output } = await guest.agent.run(command, { quietMs: 120_000 });
      const report = JSON.parse(output.find(line => line.startsWith('{')) ?? '{}') as Record<string, unknown>;
      expect(report, output.join('\n')).toMatchObject({ name: 'dma-soak', pass: true });
      expect(status).toBe(0);
      transfers += report.transfers as number;
    }
    return transfers;
  }

  it('loses no byte where the line breaks again and again in the middle of DMA, and comes back', PATIENCE, async () => {
    let over = false;
    const soaked = soak(() => over);
    // Rejects where a byte was wrong: then there may never be anything to cut again.
    const failed = new Promise<never>((_, reject) => soaked.catch(reject));
    failed.catch(() => {});
    for (let cuts = 1; cuts <= CUTS; cuts++) {
      // What the server writes, and what it reads.
      const cut = proxy.cutInside(DMA_BYTES, cuts % 2 === 0 ? 'to-server' : 'to-client', SPARED);
      await Promise.race([cut, failed]);
      if (cuts % 4 === 0) {
        const refused = proxy.refused + VAIN_ATTEMPTS;
        proxy.refuse();
        await expect.poll(() => proxy.refused, { timeout: 10_000 }).toBeGreaterThanOrEqual(refused);
        proxy.allow();
      }
      await until('link.resumed', cuts * FUNCTIONS);
    }
    over = true;
    expect(await soaked).toBeGreaterThan(CUTS * SPARED);

    expect(count('link.lost')).toBe(CUTS * FUNCTIONS);
    expect(count('link.closed')).toBe(0);
    const server = await RemoteMachine.connect(url);
    expect((await server.findings()).findings).toEqual([]);
    await server.close();
    const { output: log } = await guest.agent.run('dmesg');
    expect(judgeKernelLog(log, 'vtd')).toMatchObject({ missing: [], bad: [] });
    expect(log.filter(line => /fault|error|timed out/i.test(line) && /DMAR|vfio/.test(line))).toEqual([]);
    expect(complaints(guest.qemu.stderr())).toEqual([]);
  });

  it('gives the devices up where the line does not come back, and QEMU ends without them', PATIENCE, async () => {
    const endless = guest.agent.run(`dma-soak --seconds ${ENDLESS_SECONDS} --seed 8 --json`);
    endless.catch(() => {});
    await proxy.cutInside(DMA_BYTES, 'to-client');
    proxy.refuse();
    await bridge.says(/\[edu0\] link\.closed .*did not come back within 4000 ms/);
    await until('client.closed', FUNCTIONS);
    guest.agent.close();
    await guest.qemu.quit();
    const { code, stderr } = await guest.qemu.exit;
    expect(code).toBe(0);
    expect(complaints(stderr).filter(line => line.endsWith('failed to read header: EOF'))).toHaveLength(FUNCTIONS);
  });
});
