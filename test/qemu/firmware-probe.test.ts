import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Firmware, MachineConfiguration } from '../../qemu/command-line.ts';
import { forgetIommuBar, probeIommuBar, type RunProbeOptions } from '../../qemu/firmware-probe.ts';
import type { QemuInstallation } from '../../qemu/provision.ts';
import { describeTopology, type TopologyKind } from '../../qemu/topology.ts';
import { GUEST_TIMEOUT_MS, PROVISION_TIMEOUT_MS, realQemu, temporaryDirectory } from './support.ts';
import { TinyFunction } from './vfio-user-function.ts';

let installation: QemuInstallation;
const directory = temporaryDirectory();
let sockets = 0;

beforeAll(async () => {
  installation = await realQemu();
}, PROVISION_TIMEOUT_MS);

function machine(kind: TopologyKind, firmware: Firmware): MachineConfiguration {
  return {
    topology: describeTopology(kind, ['edu0', 'edu1']),
    firmware,
    accelerator: 'tcg',
    memory: 'message',
    memoryMegabytes: 256,
    boot: { kind: 'firmware' },
  };
}

/** Serves an IOMMU and two endpoints for as long as `use` runs. */
async function withServers<T>(
  configuration: MachineConfiguration,
  use: (options: RunProbeOptions, iommu: TinyFunction, calls: () => number) => Promise<T>,
): Promise<T> {
  const path = (name: string) => join(directory, `${name}-${sockets}.sock`);
  sockets++;
  const iommu = await TinyFunction.listen(path('iommu'));
  const endpoints = [
    await TinyFunction.listen(path('edu0'), 1 << 20),
    await TinyFunction.listen(path('edu1'), 1 << 20),
  ];
  let waits = 0;
  try {
    const options: RunProbeOptions = {
      installation,
      configuration,
      functions: [4096, 1 << 20, 1 << 20],
      progress: () => {},
      cache: directory,
      iommuSocket: path('iommu'),
      endpointSockets: { edu0: path('edu0'), edu1: path('edu1') },
      waitForPlacement: () => {
        waits++;
        return iommu.placement;
      },
    };
    return await use(options, iommu, () => waits);
  } finally {
    for (const one of [iommu, ...endpoints]) one.close();
  }
}

describe('the probe of the firmware', () => {
  const cases = [
    ['root-ports', 'bios'],
    ['root-bus', 'bios'],
    ['root-ports', 'uefi'],
  ] as const;
  for (const [kind, firmware] of cases) {
    it(
      `learns where ${firmware} puts the unit beside endpoints on ${kind}, and a second run agrees`,
      async () => {
        const configuration = machine(kind, firmware);
        const first = await withServers(configuration, options => probeIommuBar(options));
        const remembered = await withServers(configuration, async (options, iommu, waits) => {
          const address = await probeIommuBar(options);
          expect(iommu.connections).toBe(0);
          expect(waits()).toBe(0);
          await forgetIommuBar(options);
          return address;
        });
        const again = await withServers(configuration, async (options, iommu) => {
          const address = await probeIommuBar(options);
          expect(iommu.connections).toBe(1);
          return address;
        });
        expect(first % 4096n).toBe(0n);
        expect(first).toBeGreaterThan(0x8000_0000n);
        expect(remembered).toBe(first);
        expect(again).toBe(first);
      },
      2 * GUEST_TIMEOUT_MS,
    );
  }

  it(
    'says what QEMU said when a server refuses',
    async () => {
      await withServers(machine('root-bus', 'bios'), async (options, iommu) => {
        iommu.close();
        const refused = { ...options, functions: 'refused' };
        await expect(probeIommuBar(refused)).rejects.toThrow(/QEMU ended while it started.*[\s\S]*vfio-user-pci/);
      });
    },
    GUEST_TIMEOUT_MS,
  );

  it(
    'gives up, and ends QEMU, when the unit is never placed',
    async () => {
      await withServers(machine('root-bus', 'bios'), async options => {
        const never = {
          ...options,
          functions: 'never',
          timeoutMs: 50,
          waitForPlacement: () => new Promise<bigint>(() => {}),
        };
        await expect(probeIommuBar(never)).rejects.toThrow(/did not place the IOMMU's registers within 0\.05 s/);
      });
    },
    GUEST_TIMEOUT_MS,
  );
});
