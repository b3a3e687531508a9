/** ACPI's own compiler reads our tables, and what it makes of that reading is ours again. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { buildDmar } from '../../../qemu/acpi/dmar.ts';
import { buildExternalPortsSsdt } from '../../../qemu/acpi/ssdt.ts';
import { provisionTool } from '../../../qemu/packages.ts';
import { run } from '../../../qemu/run.ts';
import { describeDmar, describeTopology } from '../../../qemu/topology.ts';
import { PROVISION_TIMEOUT_MS, say, temporaryDirectory } from '../support.ts';

const HEADER_BYTES = 36;
const directory = temporaryDirectory();
let iasl: string[];

beforeAll(async () => {
  iasl = await provisionTool('iasl', 'acpica-tools', { progress: say });
}, PROVISION_TIMEOUT_MS);

/** The source that a table reads as, and the table that the source compiles to. */
async function roundTrip(name: string, table: Uint8Array): Promise<{ source: string; compiled: Uint8Array }> {
  const path = (suffix: string) => join(directory, `${name}${suffix}`);
  await writeFile(path('.aml'), table);
  const read = await run([...iasl, '-d', path('.aml')], { cwd: directory });
  expect(read, read.stderr).toMatchObject({ status: 0 });
  const written = await run([...iasl, '-p', path('-again.aml'), path('.dsl')], { cwd: directory });
  expect(written.stdout).toMatch(/0 Errors, 0 Warnings/);
  return { source: await readFile(path('.dsl'), 'utf8'), compiled: await readFile(path('-again.aml')) };
}

/** The value that iasl prints beside a field's name. */
function fields(source: string, name: string): string[] {
  return [...source.matchAll(new RegExp(`\\] +${name} : (.*)$`, 'gm'))].map(match => match[1]!.trim());
}

describe('iasl', () => {
  it('reads the DMAR of two endpoints behind root ports as described', async () => {
    const unit = { registerBase: 0xc0_4000_0000n, registerBytes: 4096, hostAddressWidth: 48 };
    const table = buildDmar(describeDmar(describeTopology('root-ports', ['a', 'b']), unit));
    const { source, compiled } = await roundTrip('dmar', table);
    expect(fields(source, 'Host Address Width')).toEqual(['2F']);
    expect(fields(source, 'Subtable Type')).toEqual(['0000 [Hardware Unit Definition]']);
    expect(fields(source, 'Flags').slice(0, 2)).toEqual(['04', '00']);
    expect(fields(source, 'PCI Segment Number')).toEqual(['0000']);
    expect(fields(source, 'Register Base Address')).toEqual(['000000C040000000']);
    const endpoint = '01 [PCI Endpoint Device]';
    expect(fields(source, 'Device Scope Type')).toEqual([endpoint, endpoint]);
    expect(fields(source, 'PCI Path')).toEqual(['02,00', '00,00', '03,00', '00,00']);
    expect(compiled.subarray(HEADER_BYTES)).toEqual(Buffer.from(table.subarray(HEADER_BYTES)));
  });

  it('reads the DMAR of endpoints on the root bus without opt-in', async () => {
    const unit = { registerBase: 0xfeb0_0000n, registerBytes: 8192, hostAddressWidth: 39 };
    const table = buildDmar(describeDmar(describeTopology('root-bus', ['a']), unit));
    const { source, compiled } = await roundTrip('rootbus', table);
    expect(fields(source, 'Flags')[0]).toBe('00');
    expect(fields(source, 'PCI Path')).toEqual(['04,00']);
    expect(compiled.subarray(HEADER_BYTES)).toEqual(Buffer.from(table.subarray(HEADER_BYTES)));
  });

  it('reads the SSDT of external-facing ports as described', async () => {
    const table = buildExternalPortsSsdt([{ slot: 2 }, { slot: 0x1d }]);
    const { source, compiled } = await roundTrip('ssdt', table);
    const text = source.replaceAll(/\/\/.*$|\/\*[\s\S]*?\*\//gm, '').replaceAll(/\s+/g, ' ');
    const port = (path: string, uid: string) =>
      `Scope (\\_SB.PCI0.${path}) { Name (_DSD, Package (0x02) { ToUUID ("efcc06cc-73ac-4bc3-bff0-76143807c389") , ` +
      `Package (0x02) { Package (0x02) { "ExternalFacingPort", One }, Package (0x02) { "UID", ${uid} } } }) }`;
    expect(text).toContain(port('S10', 'Zero'));
    expect(text).toContain(port('SE8', 'One'));
    // The compiler puts declarations of the two ports in front; the terms themselves come after them, byte by byte ours.
    const body = table.subarray(HEADER_BYTES);
    expect(compiled.subarray(compiled.length - body.length)).toEqual(Buffer.from(body));
  });
});
