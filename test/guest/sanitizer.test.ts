import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
// The device thread is a worker, which runs compiled code.
import { GuestRun } from '../../dist/src/cli/guest-run.js';
import { GuestAgent } from '../../images/guest/agent.ts';
import { buildInitramfs } from '../../images/guest/initramfs.ts';
import { provisionGuestPackages, provisionQemu } from '../../qemu/provision.ts';
import { guestConfiguration } from '../../src/cli/guest-options.ts';
import { describeMachine } from '../../src/machine/description.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';
import {
  CACHING_MODE_EXPECTATIONS,
  DEMO_FINDINGS,
  DMA_IOMMU_EXPECTATIONS,
  type Expectation,
  VTD_EXPECTATIONS,
} from './sanitizer-expectations.ts';
import { READY_TIMEOUT_MS } from './support.ts';

/** Shared among the three ways to drive an IOMMU. */
const SOAK_SECONDS = Number(process.env.VIOMMU_SOAK_SECONDS ?? 15);
const SOAK_MODES = 3;
const CASE_TIMEOUT_MS = 60_000;
/** What waits for a flush that may still come is decided in a fraction of a second; on a busy machine that is told late. */
const DECIDED_MS = 20_000;
/** The kernel leaves the unit alone, and root may map its registers. */
const UNIT_IS_OURS = 'intel_iommu=off iomem=relaxed';
const PAGE = 4096n;
const PROGRAMS = ['dma-demo', 'dma-soak', 'wrong-dma-iommu', 'wrong-vtd'];
const quiet = () => {};

interface GuestOptions {
  readonly iommu: 'vtd' | 'dma-iommu';
  readonly devices: readonly string[];
  readonly append?: string;
  readonly cachingMode?: boolean;
}

/** A guest, and what the machine behind it found. */
class CheckedGuest {
  /** How often each finding had happened when it was last asked. */
  private readonly seen = new Map<string, number>();

  private constructor(
    private readonly run: GuestRun,
    private readonly agent: GuestAgent,
  ) {}

  static async start({ iommu, devices, append = '', cachingMode }: GuestOptions): Promise<CheckedGuest> {
    const packages = await provisionGuestPackages({ progress: quiet });
    const initrd = await buildInitramfs({
      kernel: packages,
      busybox: packages.busybox,
      programs: PROGRAMS,
      progress: quiet,
    });
    const description = describeMachine(iommu, devices, { cachingMode });
    const installation = await provisionQemu({ progress: quiet });
    const boot = { kind: 'kernel', kernel: packages.vmlinuz, initrd, append: `console=ttyS0 quiet ${append}` } as const;
    const flags = { memory: 'shared', firmware: 'bios', accel: 'auto', ram: 512, cpus: 2 } as const;
    const configuration = await guestConfiguration(flags, installation, description, boot);
    let console = '';
    const run = await GuestRun.start({
      description,
      installation,
      configuration,
      progress: quiet,
      agent: true,
      console: chunk => {
        console += chunk.toString();
      },
      onEvent: quiet,
    });
    try {
      const agent = await GuestAgent.connect(run.qemu.agentSocket ?? '');
      await agent.ready(READY_TIMEOUT_MS);
      return new CheckedGuest(run, agent);
    } catch (error) {
      await run.close();
      throw new Error(`${(error as Error).message}\n${console}`);
    }
  }

  async close(): Promise<void> {
    this.agent.close();
    await this.run.close();
  }

  /** The JSON lines of a program that must end well. */
  async program(command: string, timeoutMs = CASE_TIMEOUT_MS): Promise<Record<string, unknown>[]> {
    const { status, output } = await this.agent.run(command, { timeoutMs });
    expect(status, output.join('\n')).toBe(0);
    return output.filter(line => line.startsWith('{')).map(line => JSON.parse(line));
  }

  /** What happened since the last `newFindings` that was taken: new findings, and old ones that happened again. */
  async findings(): Promise<Finding[]> {
    const { findings } = await this.run.host.findings();
    return findings.filter(({ id, count }) => count > (this.seen.get(id) ?? 0));
  }

  /** Waits until all that looked like a mistake is decided and so many detectors have spoken, then takes what they said. */
  async take(wanted: number): Promise<Finding[]> {
    const within = { timeout: DECIDED_MS, interval: 50 };
    // What is missing then, the caller says with what there is.
    await vi
      .waitFor(async () => expect((await this.findings()).length).toBeGreaterThanOrEqual(wanted), within)
      .catch(quiet);
    await vi.waitFor(
      async () => expect(await this.run.host.findings()).toMatchObject({ state: 'on', undecided: false }),
      within,
    );
    const found = await this.findings();
    for (const { id, count } of found) this.seen.set(id, count);
    return found;
  }
}

/** A note may be in order: the kernel detaches a device that nobody uses any more first, and takes its tables away after. */
function mistakes(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ severity }) => severity !== 'note');
}

function told(findings: readonly Finding[]): string {
  return findings.map(({ detector, count, summary }) => `${detector} (${count}): ${summary}`).join('\n');
}

/** Runs one case of a program alone, and compares what was found with what must be. */
async function checkCase(guest: CheckedGuest, program: string, expectation: Expectation): Promise<void> {
  const [facts] = await guest.program(`${program} --json --case ${expectation.name}`);
  expect(facts).toMatchObject({ name: expectation.name, pass: true });
  const all = await guest.take(expectation.detectors.length);
  const found = all.filter(one => expectation.detectors.includes(one.detector) || one.severity !== 'note');
  const detectors = [...new Set(found.map(({ detector }) => detector))].sort();
  expect(detectors, told(found)).toEqual([...expectation.detectors].sort());
  const finding = found.find(({ detector }) => detector === expectation.detectors[0]);
  if (finding === undefined) return;
  expect(finding.device).toBe(expectation.device ?? 'edu0');
  const kinds = finding.evidence.map(({ kind }) => kind);
  expect(kinds, told(found)).toEqual(expect.arrayContaining([...(expectation.evidence ?? [])]));
  expect([finding.explanation, finding.suggestion]).not.toContain('');
  if (expectation.address === false) return;
  const iova = BigInt(facts!.iova as string);
  // A transfer that leaves its mapping is known by its start, or by the page that was refused, whichever came first.
  const distance = finding.iova === undefined ? undefined : finding.iova / PAGE - iova / PAGE;
  expect([-1n, 0n, 1n], told(found)).toContain(distance);
  expect(finding.summary).toMatch(/0x[0-9a-f]+/);
}

/** Random correct use: every byte is right, and there is nothing to complain about. */
async function checkSoak(guest: CheckedGuest, mode: string): Promise<void> {
  await guest.take(0);
  const seconds = Math.max(1, Math.round(SOAK_SECONDS / SOAK_MODES));
  const [facts] = await guest.program(`dma-soak --json --mode ${mode} --seconds ${seconds}`, (seconds + 60) * 1000);
  console.log(facts!.detail);
  expect(facts).toMatchObject({ pass: true, mode });
  expect(facts!.transfers).toBeGreaterThan(0);
  const found = mistakes(await guest.take(0));
  expect(found.length, told(found)).toBe(0);
}

/** One guest for all tests of a `describe`. */
function guestFor(options: GuestOptions): { readonly guest: CheckedGuest } {
  let guest: CheckedGuest | undefined;
  beforeAll(async () => {
    guest = await CheckedGuest.start(options);
  });
  afterAll(async () => {
    await guest?.close();
  });
  return {
    get guest() {
      if (guest === undefined) throw new Error('the guest did not start');
      return guest;
    },
  };
}

describe('a driver of the VT-d unit that is wrong on purpose', () => {
  const devices = ['edu@01:00.0,dmaMask=64', 'edu@02:00.0'];
  const machine = guestFor({ iommu: 'vtd', devices, append: UNIT_IS_OURS });

  it.each(VTD_EXPECTATIONS)('$name: $detectors', async expectation => {
    await checkCase(machine.guest, 'wrong-vtd', expectation);
  });

  it('and one that is right for a while', { timeout: (SOAK_SECONDS + 60) * 1000 }, async () => {
    await checkSoak(machine.guest, 'vtd');
  });
});

describe('a driver of the VT-d unit that is wrong on purpose, in caching mode', () => {
  const devices = ['edu@01:00.0,dmaMask=64'];
  const machine = guestFor({ iommu: 'vtd', devices, append: UNIT_IS_OURS, cachingMode: true });

  it.each(CACHING_MODE_EXPECTATIONS)('$name: $detectors', async expectation => {
    await checkCase(machine.guest, 'wrong-vtd', expectation);
  });
});

describe('a driver of the dma-iommu function that is wrong on purpose', () => {
  const devices = ['edu@01:00.0,dmaMask=64', 'edu@02:00.0,dmaMask=64'];
  const machine = guestFor({ iommu: 'dma-iommu', devices });

  it.each(DMA_IOMMU_EXPECTATIONS)('$name: $detectors', async expectation => {
    await checkCase(machine.guest, 'wrong-dma-iommu', expectation);
  });

  it('and one that is right for a while', { timeout: (SOAK_SECONDS + 60) * 1000 }, async () => {
    await checkSoak(machine.guest, 'dma-iommu');
  });
});

describe("the stock kernel's own driver", () => {
  const machine = guestFor({ iommu: 'vtd', devices: ['edu@01:00.0', 'edu@02:00.0'] });

  it('boots and binds without a mistake', async () => {
    const found = await machine.guest.findings();
    expect(found.length, told(found)).toBe(0);
  });

  it("is blamed for the demo's deliberate faults and for nothing else", async () => {
    await machine.guest.program('dma-demo --json');
    const found = mistakes(await machine.guest.take(DEMO_FINDINGS.length));
    const key = (detector: string, device: string, iova = -1n) =>
      `${detector} ${device} 0x${(iova / PAGE).toString(16)}`;
    expect(found.map(one => key(one.detector, one.device, one.iova)).sort(), told(found)).toEqual(
      DEMO_FINDINGS.map(one => key(one.detector, one.device, one.iova)).sort(),
    );
  });

  it('is right for a while', { timeout: (SOAK_SECONDS + 60) * 1000 }, async () => {
    await checkSoak(machine.guest, 'vfio');
  });
});
