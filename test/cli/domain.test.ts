import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { addDomain } from '../../src/cli/domain.ts';
import { CommandFailure, UsageError } from '../../src/cli/errors.ts';
import { serveRemote } from '../../src/cli/serve-remote.ts';
import { newToken } from '../../src/inspector/access.ts';
import { REMOTE_FILE, readRemoteFile } from '../../src/inspector/remote-file.ts';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import { RigPort } from '../inspector/rig-port.ts';
import { FakePort, later, serve } from '../inspector/support.ts';
import { R, Rig } from '../iommu/dma-iommu/support.ts';

/** What a command printed, and whether it failed. */
interface Run {
  readonly lines: string[];
  readonly failed: boolean;
}

async function viommu(...words: string[]): Promise<Run> {
  const lines: string[] = [];
  let failed = false;
  const program = new Command('viommu').exitOverride().configureOutput({
    writeOut: text => lines.push(text),
    writeErr: () => {},
  });
  addDomain(program, {
    print: line => lines.push(line),
    fail: () => {
      failed = true;
    },
  });
  await program.parseAsync(['domain', ...words], { from: 'user' });
  return { lines, failed };
}

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'viommu-domain-'));
  later(() => rmSync(made, { recursive: true }));
  return made;
}

async function fake() {
  const { fake, url } = await serve();
  return { fake, on: (...words: string[]) => viommu(...words, '--connect', url) };
}

async function real() {
  const rig = new Rig();
  const port = new RigPort(rig);
  const { url } = await serve({ machines: new Map([['machine', port]]) });
  return { rig, on: (...words: string[]) => viommu(...words, '--connect', url) };
}

const contiguousRange = { type: 'contiguousRange', base: 0x10_0000n, size: 0x4000n };
const mdl = { type: 'mdl', pages: Int32Array.of(0x100, 0x101), byteOffset: 0, byteCount: 0x2000 };
const HELD = '0x100000+0x4000';

/** Command line, operation, arguments. */
const COMMANDS: readonly (readonly [string, OperationName, object])[] = [
  ['create', 'createDomainEx', { domainType: 0 }],
  ['create --type unmanaged', 'createDomainEx', { domainType: 2 }],
  ['create --type translate-s1', 'createDomainEx', { domainType: 3 }],
  [
    'create --allocator-bits 40 --reserve 0xfee00000+0x100000 --reserve 0x1000+0x1000:map',
    'createDomainEx',
    {
      domainType: 0,
      logicalAllocatorConfig: { logicalAllocatorType: 1, addressWidth: 40 },
      reservedRegions: [
        { base: 0xfee0_0000n, numberOfPages: 256, shouldMap: false },
        { base: 0x1000n, numberOfPages: 1, shouldMap: true },
      ],
    },
  ],
  ['create --v1', 'createDomain', { osManagedPageTable: true }],
  ['create --v1 --type unmanaged', 'createDomain', { osManagedPageTable: false }],
  ['delete 3', 'deleteDomain', { domain: 3 }],
  [
    'attach 3 01:00.0',
    'attachDevice',
    { domain: 3, physicalDeviceObject: 0x100, inputMappingIdBase: 0, mappingCount: 1 },
  ],
  [
    'attach 3 01:00.0 --base 8 --count 4',
    'attachDevice',
    { domain: 3, physicalDeviceObject: 0x100, inputMappingIdBase: 8, mappingCount: 4 },
  ],
  ['attach 3 5', 'attachDeviceEx', { domain: 3, dmaDevice: 5 }],
  ['detach 01:00.0 3 --base 8', 'detachDevice', { domain: 3, physicalDeviceObject: 0x100, inputMappingId: 8 }],
  ['detach 5', 'detachDeviceEx', { dmaDevice: 5 }],
  ['flush 3', 'flushDomain', { domain: 3 }],
  ['flush-va 3 0x1000 8192', 'flushDomainByVaList', { domain: 3, lastLevel: false, vaList: [0x1000n, 0x2000n] }],
  ['flush-va 3 0x1000 --last-level', 'flushDomainByVaList', { domain: 3, lastLevel: true, vaList: [0x1000n] }],
  [
    `map 3 ${HELD} --at 0x80000000 --permissions r`,
    'mapLogicalRangeEx',
    { domain: 3, permissions: 1, physicalAddressToMap: contiguousRange, explicitLogicalAddress: 0x8000_0000n },
  ],
  [
    `map 3 ${HELD} --min 0x1000 --max 0xffffffff`,
    'mapLogicalRangeEx',
    {
      domain: 3,
      permissions: 3,
      physicalAddressToMap: contiguousRange,
      minLogicalAddress: 0x1000n,
      maxLogicalAddress: 0xffff_ffffn,
    },
  ],
  [
    'map 3 0x100000+0x2000 --at 0x1000 --v1',
    'mapLogicalRange',
    { domain: 3, permissions: 3, mdl, logicalAddress: 0x1000n },
  ],
  ['unmap 3 0x1000 2', 'unmapLogicalRange', { domain: 3, logicalAddress: 0x1000n, numberOfPages: 2 }],
  [
    `map-identity 3 ${HELD}`,
    'mapIdentityRangeEx',
    { domain: 3, permissions: 3, physicalAddressToMap: contiguousRange },
  ],
  ['map-identity 3 0x100000+0x2000 --v1 --permissions w', 'mapIdentityRange', { domain: 3, permissions: 2, mdl }],
  [`unmap-identity 3 ${HELD}`, 'unmapIdentityRangeEx', { domain: 3, mappedPhysicalAddress: contiguousRange }],
  ['unmap-identity 3 0x100000+0x2000 --v1', 'unmapIdentityRange', { domain: 3, mdl }],
  [
    'configure 3 --x64 0x1000 --levels 5 --no-translation',
    'configureDomain',
    { domain: 3, configuration: { type: 1, firstLevelPageTableRoot: 0x1000n, translationEnabled: false, levels: 5 } },
  ],
  [
    'configure 3 --ttbr0 0x1000 --input-size0 48 --mair0 0xff --granule 64 --no-coherent',
    'configureDomain',
    {
      domain: 3,
      configuration: {
        type: 0,
        ttbr0: 0x1000n,
        ttbr1: 0n,
        mair0: 0xff,
        mair1: 0,
        inputSize0: 48,
        inputSize1: 0,
        coherentTableWalks: false,
        translationEnabled: true,
        granule: 64,
      },
    },
  ],
  ['query 01:00.0 --length 8', 'queryInputMappings', { physicalDeviceObject: 0x100, bufferLength: 8 }],
  [
    'faults 01:00.0 on --context nic',
    'setDeviceFaultReporting',
    { physicalDeviceObject: 0x100, inputMappingIdBase: 0, enable: true, faultConfig: { faultContext: 'nic' } },
  ],
  [
    'faults 01:00.0 off',
    'setDeviceFaultReporting',
    { physicalDeviceObject: 0x100, inputMappingIdBase: 0, enable: false },
  ],
  ['faults 5 on', 'setDeviceFaultReportingEx', { dmaDevice: 5, inputMappingIdBase: 0, enable: true, faultConfig: {} }],
  ['types 5', 'queryAvailableDomainTypes', { dmaDevice: 5 }],
  ['notify 5 on --context x', 'registerInterfaceStateChangeCallback', { dmaDevice: 5, stateFields: 1, context: 'x' }],
  ['notify 5 off', 'unregisterInterfaceStateChangeCallback', { dmaDevice: 5 }],
  [
    'reserve 3 0x10000 --at 0x1000',
    'reserveLogicalAddressRange',
    { domain: 3, size: 0x10000n, explicitLogicalAddress: 0x1000n },
  ],
  ['free 6', 'freeReservedLogicalAddressRange', { token: 6 }],
  [
    `map-reserved 6 0x1000 ${HELD} --permissions r`,
    'mapReservedLogicalRange',
    { token: 6, offset: 0x1000n, permissions: 1, physicalAddressToMap: contiguousRange },
  ],
  ['unmap-reserved 7', 'unmapReservedLogicalRange', { mappedSegment: 7 }],
  ['create-device 01:00.0', 'createDevice', { physicalDeviceObject: 0x100 }],
  [
    'create-device 01:00.0 --acpi 8+4 --pasid tagged --suppress-faults',
    'createDevice',
    {
      physicalDeviceObject: 0x100,
      deviceConfig: [
        { configType: 1, inputMappingBase: 8, mappingsCount: 4 },
        { configType: 3, pasidConfigType: 1, suppressPasidFaults: true },
      ],
    },
  ],
  ['delete-device 5', 'deleteDevice', { dmaDevice: 5 }],
  ['info 5', 'queryDeviceInfo', { dmaDevice: 5, size: 3 }],
  ['create-pasid 5', 'createPasidDevice', { dmaDevice: 5 }],
  ['delete-pasid 8', 'deletePasidDevice', { pasidDevice: 8 }],
  ['attach-pasid 3 8', 'attachPasidDevice', { domain: 3, pasidDevice: 8 }],
  ['detach-pasid 8', 'detachPasidDevice', { pasidDevice: 8 }],
];

describe('viommu domain', () => {
  it.each(COMMANDS)('%s', async (line, operation, args) => {
    const { fake: port, on } = await fake();
    expect(await on(...line.split(' '))).toEqual({ lines: ['STATUS_SUCCESS'], failed: false });
    expect(port.asked).toEqual([{ name: operation, args }]);
  });

  it('has a command for every operation', () => {
    expect([...new Set(COMMANDS.map(([, operation]) => operation))].sort()).toEqual([...operationNames].sort());
  });

  it.each([
    'create --type nonsense',
    'create --v1 --type pass-through',
    'create --v1 --allocator-bits 40',
    'create --reserve 0x1000+0x10',
    'delete one',
    'attach 1 nic',
    'detach 01:00.0',
    'map 1 0x1000',
    'map 1 0x1000+0x1000 --v1',
    'map 1 0x1000+0x1000 --at 0x1000 --max 0x2000 --v1',
    'map 1 0x1000+0x1000 --permissions x',
    'configure 1',
    'configure 1 --x64 0x1000 --ttbr0 0x1000',
    'faults 01:00.0 maybe',
    'create-device 01:00.0 --suppress-faults',
    'create-device 01:00.0 --pasid other',
    'call nonsense',
    'call flushDomain {',
    'call flushDomain 1',
  ])('%s is a mistake of its user', async line => {
    const { fake: port, on } = await fake();
    await expect(on(...line.split(' '))).rejects.toThrow(UsageError);
    expect(port.asked).toEqual([]);
  });

  it.each(['delete', 'delete 1 2', 'nonsense', 'create --nonsense'])('%s is no command', async line => {
    await expect(viommu(...line.split(' '))).rejects.toThrow(CommanderError);
  });

  it('has help with examples, and help of each command', async () => {
    const help = async (...words: string[]) => {
      const lines: string[] = [];
      const program = new Command('viommu').exitOverride().configureOutput({ writeOut: text => lines.push(text) });
      addDomain(program);
      await program.parseAsync(['domain', ...words, '--help'], { from: 'user' }).catch(error => {
        expect(error.exitCode).toBe(0);
      });
      return lines.join('');
    };
    expect(await help()).toContain('$ viommu domain attach 1 01:00.0');
    expect(await help('map')).toContain('--permissions');
  });
});

describe('viommu domain on a real unit', () => {
  it('maps, shows, and unmaps', async () => {
    const { on } = await real();
    expect((await on('create')).lines).toEqual(['STATUS_SUCCESS', '  domain 1']);
    expect((await on('attach', '1', '01:00.0')).failed).toBe(false);
    expect((await on('map', '1', HELD, '--at', '0x80000000', '--permissions', 'r')).lines).toEqual([
      'STATUS_SUCCESS',
      '  logicalAddress 0x80000000',
    ]);
    expect((await on('list')).lines).toEqual([
      'domain 1 Translate',
      '  device 01:00.0, ids 256',
      '  0x80000000 4 pages r- logical',
    ]);
    expect(await on('probe', '01:00.0', '0x80001234')).toEqual({
      lines: ['physical 0x101234 (r-, page of 4096 bytes), domain 1, level 1, from walk'],
      failed: false,
    });
    expect((await on('probe', '01:00.0', '0x80001234', '--write')).failed).toBe(true);
    expect((await on('unmap', '1', '0x80000000', '4')).failed).toBe(false);
    expect(await on('probe', '01:00.0', '0x80001234')).toMatchObject({ failed: true });
  });

  it('fails where the status is not success, and names it', async () => {
    const { on } = await real();
    expect(await on('delete', '7')).toEqual({ lines: ['STATUS_INVALID_HANDLE'], failed: true });
    expect(await on('interface', '9', '--ex')).toEqual({ lines: ['STATUS_INVALID_PARAMETER_1'], failed: true });
  });

  it('prints JSON', async () => {
    const { on } = await real();
    await on('create', '--allocator-bits', '40');
    const { lines } = await on('map', '1', HELD, '--json');
    expect(JSON.parse(lines[0]!)).toEqual({
      status: 0,
      statusName: 'STATUS_SUCCESS',
      logicalAddress: expect.stringMatching(/^0x[0-9a-f]+$/),
    });
    const snapshot = JSON.parse((await on('list', '--json')).lines[0]!);
    expect(snapshot.domains).toHaveLength(1);
    expect(JSON.parse((await on('probe', '01:00.0', '0', '--json')).lines[0]!)).toMatchObject({ translated: false });
    expect(JSON.parse((await on('statistics', '--json')).lines.join(''))).toBeTypeOf('object');
  });

  it('lists devices, PASID devices and tokens', async () => {
    const { on } = await real();
    expect((await on('list')).lines).toEqual(['no domains, no DMA devices']);
    await on('create');
    await on('create-device', '03:00.0', '--pasid', 'tagged');
    await on('create-pasid', '2');
    await on('reserve', '1', '0x10000', '--at', '0x1000');
    const { lines } = await on('list');
    expect(lines).toContain('DMA device 2 of 03:00.0, not attached');
    expect(lines).toContain('  PASID device 3, PASID 1, not attached');
    expect(lines).toContain('token 4 in domain 1: 0x1000, 16 pages, 0 segments');
  });

  it('calls any operation by name', async () => {
    const { on } = await real();
    expect((await on('call', 'createDomain', '{"osManagedPageTable":false}')).failed).toBe(false);
    const flush = await on(
      'call',
      'flushDomainByVaList',
      '{"domain":1,"lastLevel":true,"vaList":["0xffffffffffff0000"]}',
    );
    expect(flush).toEqual({ lines: ['STATUS_SUCCESS'], failed: false });
    expect((await on('call', 'help')).lines).toEqual(operationNames);
    await expect(on('call', 'flushDomain')).rejects.toThrow(UsageError);
  });

  it('prints faults as they happen', async () => {
    const { rig, on } = await real();
    await on('create');
    await on('attach', '1', '01:00.0');
    await on('faults', '01:00.0', 'on', '--context', 'nic');
    const watching = on('watch', 'callback.*', '--count', '2');
    const fault = () => {
      rig.unit.translate(0x100, 0, 0x5000, R, rig.out);
      rig.jobs.run();
    };
    // The subscription is there some time after the command starts.
    let done = false;
    const ended = watching.finally(() => {
      done = true;
    });
    while (!done) {
      fault();
      await new Promise(resolve => setImmediate(resolve));
    }
    const { lines } = await ended;
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^\[iommu] callback\.fault context=nic fault=\{.*"faultAddress":"0x5000"/);
  });
});

describe('where the server is', () => {
  it('tells the directory that it serves in', async () => {
    const where = directory();
    const remote = await serveRemote('0', where, new FakePort().port, true);
    later(() => remote.close());
    expect(readRemoteFile(where)).toMatchObject({ url: remote.url, token: expect.any(String) });
    expect((await viommu('flush', '1', '--dir', where)).lines).toEqual(['STATUS_SUCCESS']);
    await remote.close();
    expect(readRemoteFile(where)).toBeUndefined();
    await expect(viommu('flush', '1', '--dir', where)).rejects.toThrow(`there is no ${REMOTE_FILE} in ${where}`);
  });

  it('needs a token where other machines can connect, which the directory has', async () => {
    const where = directory();
    const remote = await serveRemote('0.0.0.0:0', where, new FakePort().port);
    later(() => remote.close());
    expect((await viommu('flush', '1', '--dir', where)).failed).toBe(false);
    await expect(viommu('flush', '1', '--connect', remote.url)).rejects.toThrow('401');
  });

  it('is said with its token in a file', async () => {
    const where = directory();
    const token = newToken();
    const { url } = await serve({ token });
    const file = join(where, 'token');
    writeFileSync(file, `${token}\n`);
    expect((await viommu('flush', '1', '--connect', url, '--token-file', file)).failed).toBe(false);
    const missing = viommu('flush', '1', '--connect', url, '--token-file', join(where, 'none'));
    await expect(missing).rejects.toThrow(UsageError);
  });

  it('must be said', async () => {
    await expect(viommu('flush', '1')).rejects.toThrow(UsageError);
  });

  it.each(['65536', 'localhost', 'a:b:c'])('cannot be %s', async listen => {
    await expect(serveRemote(listen, directory(), new FakePort().port)).rejects.toThrow(UsageError);
  });

  it('cannot be a place that is taken, or that does not exist', async () => {
    const { url } = await serve();
    for (const listen of [new URL(url).port, '192.0.2.1:0']) {
      const serving = serveRemote(listen, directory(), new FakePort().port, true);
      await expect(serving).rejects.toThrow(CommandFailure);
    }
  });

  it('may be a place where nobody answers', async () => {
    await expect(viommu('flush', '1', '--connect', 'ws://127.0.0.1:1')).rejects.toThrow(CommandFailure);
  });
});
