import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { checkDescription } from '../../src/machine/description.ts';
import { footprint, type ProcessFootprint, type RunningProgram, runProgram, startProgram } from '../support.ts';
import { startGuestOn, temporaryDirectory } from './support.ts';

/** More of them by command: `VIOMMU_STARTS=50 npx vitest run --project guest test/guest/many-starts.test.ts`. */
const BY_COMMAND = process.env.VIOMMU_STARTS !== undefined;
const STARTS = Number(process.env.VIOMMU_STARTS ?? 4);
/** The first starts fill pools and let the compiler settle; from then on nothing may grow. */
const WARM_UP = 2;
/** Three refused accesses among them, of which the kernel tells at once; of more it would not before five seconds are over. */
const CASES = [
  ...['device-reads', 'device-writes', 'scattered', 'large-pages', 'two-domains', 'read-only', 'msi', 'remap', 'intx'],
  'use-after-unmap',
];
const SELECTION = BY_COMMAND ? '' : CASES.map(name => `--case ${name}`).join(' ');
/** Of the process: JavaScript's own heap comes and goes. */
const MAPPINGS_SLACK = 32;
/** Garbage not yet collected, in KiB: far below what one leaked buffer or window a start would add up to. */
const RESIDENT_SLACK_KIB = 24 * 1024;

describe('one server for many guests', () => {
  const directory = temporaryDirectory();
  let server: RunningProgram;

  beforeAll(async () => {
    server = startProgram(['serve', '--dir', directory.path, '--device', 'edu@01:00.0', '--device', 'edu@02:00.0']);
    await server.says(/^ready/m);
  });

  afterAll(async () => {
    server.child.kill('SIGTERM');
    await server.ended;
    directory.remove();
  });

  it(`serves ${STARTS} QEMUs in a row, ${BY_COMMAND ? 'the demo passes' : `${CASES.length} cases of the demo pass`} in each, and nothing grows`, {
    timeout: STARTS * 60_000,
  }, async () => {
    // Before anything has connected.
    const idle = footprint(server.pid).descriptors;
    const args = await runProgram(['qemu-args', '--dir', directory.path]);
    expect(args.status, args.stderr).toBe(0);
    const address = readRegisterBase(readFileSync(join(directory.path, 'dmar.aml')));
    const description = checkDescription(JSON.parse(readFileSync(join(directory.path, 'machine.json'), 'utf8')));
    const footprints: ProcessFootprint[] = [];
    for (let start = 1; start <= STARTS; start++) {
      const { qemu, agent } = await startGuestOn(directory.path, description, address);
      const { status, output } = await agent.run(`dma-demo ${SELECTION}`);
      expect(status, `start ${start}: ${output.join('\n')}`).toBe(0);
      agent.close();
      await qemu.quit();
      // The server learns of the end by its sockets, a moment later.
      await expect.poll(() => footprint(server.pid).descriptors).toBe(idle);
      footprints.push(footprint(server.pid));
    }
    const settled = footprints[WARM_UP - 1]!;
    const last = footprints[STARTS - 1]!;
    console.log(`footprint after ${WARM_UP} starts`, settled, `after ${STARTS}`, last);
    expect(footprints.map(one => one.guestMappings)).toEqual(footprints.map(() => 0));
    expect(last.namedMappings).toBeLessThanOrEqual(settled.namedMappings);
    // A leak would be one a start at least.
    expect(last.mappings).toBeLessThan(settled.mappings + Math.max(MAPPINGS_SLACK, STARTS - WARM_UP));
    expect(last.residentKiB).toBeLessThan(settled.residentKiB + RESIDENT_SLACK_KIB);
  });
});
