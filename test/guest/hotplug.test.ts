/** A function is taken out of a running guest and put back, while another one works. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRegisterBase } from '../../qemu/acpi/dmar.ts';
import { plug, unplug } from '../../qemu/hot-plug.ts';
import { QmpError } from '../../qemu/qmp.ts';
import { topologyOf } from '../../src/cli/topology.ts';
import { checkDescription, type MachineDescription } from '../../src/machine/description.ts';
import { footprint, type ProcessFootprint, type RunningProgram, runProgram, startProgram } from '../support.ts';
import { type ServedGuest, startGuestOn, temporaryDirectory } from './support.ts';

/** More of them by command: `VIOMMU_HOTPLUG=50 npx vitest run --project guest test/guest/hotplug.test.ts`. */
const CYCLES = Number(process.env.VIOMMU_HOTPLUG ?? 5);
/**
 * By command, `VIOMMU_HOTPLUG_NATIVE=1`: the root port's own hot plug (PCIe 6.7), where the guest waits five seconds after each request,
 * in place of ACPI's, which q35 has unless it is told otherwise.
 */
const NATIVE = process.env.VIOMMU_HOTPLUG_NATIVE === '1';
const NATIVE_ARGUMENTS = ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'];
const COMMAND_TIMEOUT_MS = 60_000;
/** Garbage not yet collected, in KiB. */
const RESIDENT_SLACK_KIB = 24 * 1024;
/** The first cycles fill pools and let the compiler settle. */
const WARM_UP = 2;

/** Cases without faults made on purpose: the kernel tells of few of those in a short time, and the sanitizer of each. */
const CASES = ['device-reads', 'device-writes', 'remap', 'msi'].map(name => `--case ${name}`).join(' ');
const REPLUGGED = '0000:01:00.0';
const OTHER = '0000:02:00.0';
const FOLDER = `/sys/bus/pci/devices/${REPLUGGED}`;
/** Of the configuration space: the cache line size, which nothing but a driver sets and a reset clears. */
const CACHE_LINE = 12;
/** Polls in the guest, each a tenth of a second. */
const POLLS = 300;

describe('hot unplug and replug', () => {
  const directory = temporaryDirectory();
  let server: RunningProgram;
  let description: MachineDescription;
  let guest: ServedGuest;

  beforeAll(async () => {
    server = startProgram(['serve', '--dir', directory.path, '--device', 'edu@01:00.0', '--device', 'edu@02:00.0']);
    await server.says(/^ready/m);
    const args = await runProgram(['qemu-args', '--dir', directory.path]);
    expect(args.status, args.stderr).toBe(0);
    description = checkDescription(JSON.parse(readFileSync(join(directory.path, 'machine.json'), 'utf8')));
    const address = readRegisterBase(readFileSync(join(directory.path, 'dmar.aml')));
    guest = await startGuestOn(directory.path, description, address, NATIVE ? NATIVE_ARGUMENTS : []);
  });

  afterAll(async () => {
    guest?.agent.close();
    await guest?.qemu.quit();
    server?.child.kill('SIGTERM');
    await server?.ended;
    directory.remove();
  });

  /** What the command says; it must end well. */
  async function sh(command: string): Promise<string> {
    const { status, output } = await guest.agent.run(command, { timeoutMs: COMMAND_TIMEOUT_MS });
    expect(status, `${command}\n${output.join('\n')}`).toBe(0);
    return output.join('\n');
  }

  /** Waits in the guest. */
  async function until(condition: string): Promise<void> {
    await sh(`n=0; until ${condition}; do n=$((n + 1)); [ $n -lt ${POLLS} ] || exit 1; sleep 0.1; done`);
  }

  /** The other device's loop says "round" for each time through; every one of its transfers was right. */
  async function loopGoesOn(): Promise<void> {
    await until(`[ $(grep -c round /tmp/loop) -gt ${await sh('grep -c round /tmp/loop || true')} ]`);
    expect(await sh('grep -v round /tmp/loop || true')).toBe('');
  }

  it(`gives the guest a function in its reset state ${CYCLES} times, and disturbs no other`, {
    timeout: 60_000 + CYCLES * 60_000,
  }, async () => {
    const { qmp } = guest.qemu;
    const endpoint = topologyOf(description).endpoints.find(({ name }) => name === 'edu0')!;
    const socket = join(directory.path, 'edu0.sock');
    await sh(`dma-demo ${CASES} ${REPLUGGED}`);
    await sh(
      `while [ ! -e /tmp/stop ]; do dma-demo --case device-writes --case scattered ${OTHER} >/tmp/last 2>&1 ` +
        '|| { cat /tmp/last; break; }; echo round; done >/tmp/loop 2>&1 &',
    );
    await loopGoesOn();
    const before = footprint(server.pid);
    const footprints: ProcessFootprint[] = [];
    for (let cycle = 1; cycle <= CYCLES; cycle++) {
      // What the last life of the function leaves behind.
      await sh(`printf '\\020' | dd of=${FOLDER}/config bs=1 seek=${CACHE_LINE} conv=notrunc 2>/dev/null`);
      expect(await sh(`od -An -tu1 -j${CACHE_LINE} -N1 ${FOLDER}/config`)).toMatch(/^ +16$/);
      await unplug(qmp, 'edu0');
      expect(await sh(`[ ! -e ${FOLDER} ] && echo gone`)).toBe('gone');
      await expect.poll(() => footprint(server.pid).descriptors).toBeLessThan(before.descriptors);
      await loopGoesOn();

      await sh('dmesg -c >/dev/null');
      await plug(qmp, endpoint, socket);
      await until(`[ -e ${FOLDER}/driver ] && [ "$(cat ${FOLDER}/power/runtime_status)" = suspended ]`);
      expect(await sh(`basename $(readlink ${FOLDER}/driver)`)).toBe('vfio-pci');
      expect(await sh(`od -An -tu1 -j${CACHE_LINE} -N1 ${FOLDER}/config`)).toMatch(/^ +0$/);
      await sh(`dma-demo ${CASES} ${REPLUGGED}`);
      // A function just powered on: no address in its BAR, nothing enabled, and an IOMMU group of its own again.
      const log = await sh('dmesg');
      expect(log).toMatch(/01:00\.0: \[1234:11e8\]/);
      expect(log).toMatch(/01:00\.0: BAR 0 \[mem 0x00000000-/);
      expect(log).toMatch(/01:00\.0: Adding to iommu group \d+/);
      expect(log).toMatch(/vfio-pci 0000:01:00\.0: enabling device \(0000 -> 0002\)/);
      await loopGoesOn();
      footprints.push(footprint(server.pid));
    }
    await sh('touch /tmp/stop');
    await until('grep -q . /tmp/last && ! pidof dma-demo');
    expect(await sh('grep -v round /tmp/loop || true')).toBe('');

    const settled = footprints[Math.min(WARM_UP, CYCLES) - 1]!;
    const last = footprints[CYCLES - 1]!;
    console.log(`footprint after ${WARM_UP} cycles`, settled, `after ${CYCLES}`, last);
    expect(footprints.map(one => one.descriptors)).toEqual(footprints.map(() => before.descriptors));
    expect(footprints.map(one => one.guestMappings)).toEqual(footprints.map(() => before.guestMappings));
    expect(last.residentKiB).toBeLessThan(settled.residentKiB + RESIDENT_SLACK_KIB);
  });

  it('is refused by QEMU where the bus has no slots to plug into, and the function goes on', async () => {
    await expect(unplug(guest.qemu.qmp, 'iommu')).rejects.toThrow(QmpError);
    await sh(`dma-demo --case device-reads ${REPLUGGED}`);
  });

  it('is nothing that the sanitizer minds', async () => {
    guest.agent.close();
    await guest.qemu.quit();
    server.child.kill('SIGTERM');
    const { status, stderr } = await server.ended;
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});
