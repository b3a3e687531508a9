import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FindingsAnswer } from '../../src/machine/debug-commands.ts';
import { describeMachine } from '../../src/machine/description.ts';
import { artefactsOnFailure, type RunningTest, writeArtefacts } from '../../src/testcontainers/artefacts.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';

const MACHINE = describeMachine('vtd', ['edu@01:00.0']);
const FINDING: Finding = {
  id: 'F1',
  detector: 'use-after-unmap',
  severity: 'warning',
  summary: 'edu0 tried to write',
  explanation: 'The page belonged to a mapping.',
  suggestion: 'Stop the device.',
  evidence: [],
  device: 'edu0',
  iova: 0x2000n,
  first: 1,
  last: 1,
  count: 1,
};
const ANSWER: FindingsAnswer = { state: 'on', findings: [FINDING], lost: 0 };

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-artefacts-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

describe('artefacts', () => {
  it('are the findings as text and JSON, and what else there is', async () => {
    const sources = { 'run.viommu': async () => Buffer.of(1, 2), 'kernel.log': async () => 'Linux\n' };
    const written = await writeArtefacts(join(directory, 'a', 'b'), MACHINE, ANSWER, sources);
    const names = ['findings.txt', 'findings.json', 'run.viommu', 'kernel.log'];
    expect(written).toEqual(names.map(name => join(directory, 'a', 'b', name)));
    expect(readFileSync(written[0]!, 'utf8')).toContain('The page belonged to a mapping.');
    expect(JSON.parse(readFileSync(written[1]!, 'utf8'))).toMatchObject({
      findings: [{ id: 'F1', iova: '0x2000' }],
      machine: { endpoints: [{ id: 'edu0' }] },
    });
    expect([...readFileSync(written[2]!)]).toEqual([1, 2]);
    expect(readFileSync(written[3]!, 'utf8')).toBe('Linux\n');
  });

  it('are kept where one of them cannot be had', async () => {
    const sources = {
      'kernel.log': () => Promise.reject(new Error('the guest hangs')),
      'guest.log': async () => 'console',
    };
    await writeArtefacts(directory, MACHINE, ANSWER, sources);
    expect(readdirSync(directory).sort()).toEqual(['findings.json', 'findings.txt', 'guest.log', 'kernel.log.error']);
    expect(readFileSync(join(directory, 'kernel.log.error'), 'utf8')).toBe(
      'kernel.log could not be had: the guest hangs\n',
    );
  });
});

describe('after a test', () => {
  class Guest {
    readonly saved: string[] = [];
    readonly atStop: (() => Promise<void>)[] = [];
    isStopped = false;
    findings: readonly Finding[] = [FINDING];
    readonly machine = { findingsAnswer: async () => ({ ...ANSWER, findings: this.findings }) } as never;

    onStop(work: () => Promise<void>): void {
      this.atStop.push(work);
    }

    async saveArtefacts(to: string): Promise<string[]> {
      this.saved.push(to);
      return [`${to}/findings.txt`];
    }

    async stop(): Promise<void> {
      for (const work of this.atStop) await work();
      this.isStopped = true;
    }
  }

  class Running implements RunningTest {
    readonly task: { name: string; result?: { state: string } } = { name: 'works' };
    private readonly failed: (() => Promise<void>)[] = [];

    onTestFailed(work: () => Promise<void>): void {
      this.failed.push(work);
    }

    fail(): void {
      this.task.result = { state: 'fail' };
    }

    async tell(): Promise<void> {
      if (this.task.result?.state === 'fail') for (const work of this.failed) await work();
    }
  }

  let guest: Guest;
  let test: Running;
  let said: string[];

  beforeEach(() => {
    guest = new Guest();
    test = new Running();
    said = [];
    artefactsOnFailure(test, guest, 'kept', text => said.push(text));
  });

  it('that passes nothing is kept', async () => {
    await guest.stop();
    await test.tell();
    expect([guest.saved, said]).toEqual([[], []]);
  });

  it('that fails they are kept, and the findings explained', async () => {
    test.fail();
    await test.tell();
    expect(guest.saved).toEqual(['kept']);
    expect(said).toHaveLength(1);
    expect(said[0]).toContain('The page belonged to a mapping.');
    expect(said[0]).toContain("Artefacts of 'works':\n  kept/findings.txt");
    await guest.stop();
    expect(guest.saved).toEqual(['kept']);
  });

  it('that fails they are kept before the guest stops', async () => {
    test.fail();
    await guest.stop();
    expect(guest.saved).toEqual(['kept']);
    await test.tell();
    expect(guest.saved).toEqual(['kept']);
  });

  it('that fails without findings nothing is explained', async () => {
    guest.findings = [];
    test.fail();
    await test.tell();
    expect(said).toEqual(["Artefacts of 'works':\n  kept/findings.txt"]);
  });

  it('of which the guest is gone nothing can be kept', async () => {
    await guest.stop();
    test.fail();
    await test.tell();
    expect(guest.saved).toEqual([]);
  });
});
