/** `viommu/testcontainers`, with real containers and real guests. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  buildKernelModule,
  QemuGuestContainer,
  type StartedQemuGuestContainer,
  type StartedViommuContainer,
  ViommuContainer,
} from '../../src/testcontainers/viommu-container.ts';
import '../../src/testing/vitest.ts';
import { RecordingReader } from '../../src/trace/recording/reader.ts';
import { moduleBytes } from '../images/module-bytes.ts';
import { repository } from '../support.ts';
import { Docker } from './docker.ts';
import { containerEngine, runLabels, type TestImages, testImages } from './engine.ts';

const engine = await containerEngine();
const reason = 'skipped' in engine ? `, skipped: ${engine.skipped}` : '';
const LOOP_BACK = 'cd /tmp && head -c 4096 /dev/urandom >in && cat in >/dev/edu0 && cmp in /dev/edu0';

describe.skipIf(reason !== '')(`viommu/testcontainers${reason}`, () => {
  let directory: string;
  let images: TestImages;
  let docker: Docker;
  let module: string;
  let server: StartedViommuContainer;

  beforeAll(async () => {
    const host = 'host' in engine ? engine.host : '';
    docker = new Docker(host);
    process.env.DOCKER_HOST = host;
    process.env.TESTCONTAINERS_RYUK_DISABLED = 'true';
    images = await testImages();
    directory = mkdtempSync(join(tmpdir(), 'viommu-testcontainers-'));
    module = await buildKernelModule({
      source: join(repository, 'examples', 'driver-test', 'driver'),
      target: join(directory, 'edu_dma.ko'),
      base: images.debianBase,
      network: 'host',
    });
    server = await new ViommuContainer(images.server).withLabels(runLabels()).start();
  });

  afterAll(async () => {
    await server?.stop();
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  function newGuest(): QemuGuestContainer {
    return new QemuGuestContainer(images.qemu).withLabels(runLabels()).withServer(server).withDevices('edu@01:00.0');
  }

  async function containers(): Promise<string[]> {
    const lines = await docker.run('ps', '--all', '--no-trunc', '--format', '{{.ID}}');
    return lines.split('\n').filter(line => line !== '');
  }

  describe('a server', () => {
    it('has no machine before a guest wants one', async () => {
      expect(await server.machines()).toEqual([]);
      expect(await server.findings()).toEqual([]);
    });

    it('has a volume and an address of its own', async () => {
      expect(await docker.run('volume', 'ls', '--quiet')).toContain(server.volumeName);
      expect(server.url).toMatch(/^ws:\/\/[^:]+:\d+$/);
    });

    it('leaves nothing when it ends', async () => {
      const another = await new ViommuContainer(images.server).withLabels(runLabels()).withMaxMachines(1).start();
      const { volumeName } = another;
      const id = another.getId();
      await another.stop();
      expect(await docker.run('volume', 'ls', '--quiet')).not.toContain(volumeName);
      expect(await containers()).not.toContain(id);
    });
  });

  describe('a guest', () => {
    let guest: StartedQemuGuestContainer;

    beforeAll(async () => {
      const script = join(directory, 'greet.sh');
      writeFileSync(script, '#!/bin/sh\necho "hello $1"\n');
      guest = await newGuest().withModule(module, 'bug=0').withFile(script, '/root/greet').start();
    });

    afterAll(async () => {
      await guest?.stop();
    });

    it('runs commands', async () => {
      expect(await guest.run('echo one; echo two >&2; exit 7')).toEqual({ status: 7, output: 'one\ntwo\n' });
      expect(await guest.run('/root/greet world')).toEqual({ status: 0, output: 'hello world\n' });
    });

    it('ends a command that takes too long, and goes on', async () => {
      await expect(guest.run('echo begun; sleep 1000', { timeoutMs: 1000 })).rejects.toThrow(/begun/);
      expect(await guest.run('echo on')).toEqual({ status: 0, output: 'on\n' });
    });

    it('takes files while it runs', async () => {
      const path = join(directory, 'bytes');
      const bytes = Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 7) & 0xff));
      writeFileSync(path, bytes);
      await guest.copyIn(path, '/tmp/bytes');
      const { output } = await guest.run('base64 /tmp/bytes');
      expect(Buffer.from(output, 'base64').equals(bytes)).toBe(true);
    });

    it('has a machine of the server', async () => {
      expect(await server.machines()).toHaveLength(1);
      expect(guest.machine.description.endpoints.map(({ id }) => id)).toEqual(['edu0']);
    });

    it('does DMA that is right', async () => {
      expect(await guest.run(LOOP_BACK)).toEqual({ status: 0, output: '' });
      await expect(guest.machine).toHaveNoFindings();
      const write = await guest.machine.waitForRecord(({ kind, source }) => kind === 'dma.write' && source === 'edu0');
      expect(write.fields).toMatchObject({ length: 2048 });
      expect(await guest.findings()).toEqual([]);
      expect(await guest.kernelLog()).toContain('edu_dma: loading out-of-tree module');
    });

    it('meets faults on purpose', async () => {
      guest.machine.forget();
      await guest.machine.inject({ kind: 'refuse', device: 'edu0', access: 'read' });
      await guest.run(LOOP_BACK);
      await guest.machine.waitForEvent('fault.recorded');
    });

    it('refuses a module for another kernel', async () => {
      const wrong = join(directory, 'wrong.ko');
      writeFileSync(wrong, moduleBytes({ vermagic: '6.1.0-9-amd64 SMP ' }));
      await expect(guest.loadModule(wrong)).rejects.toThrow('wrong.ko was built for Linux 6.1.0-9-amd64');
    });

    it("says the kernel's words where a module cannot be loaded", async () => {
      await expect(guest.loadModule(module)).rejects.toThrow(/File exists/);
    });

    it('is found out when its driver is wrong, with artefacts that tell it', async () => {
      expect((await guest.run('rmmod edu_dma')).status).toBe(0);
      await guest.loadModule(module, 'bug=1');
      // The driver has the data already: it does not notice.
      expect(await guest.run(LOOP_BACK)).toEqual({ status: 0, output: '' });
      await expect(guest.machine).toHaveFinding('use-after-unmap', { device: 'edu0' });
      expect((await server.findings()).map(({ detector }) => detector)).toContain('use-after-unmap');

      const kept = await guest.saveArtefacts(join(directory, 'artefacts'));
      expect(kept.map(path => path.slice(directory.length + 1))).toEqual([
        'artefacts/findings.txt',
        'artefacts/findings.json',
        'artefacts/run.viommu',
        'artefacts/kernel.log',
        'artefacts/guest.log',
        'artefacts/server.log',
      ]);
      expect(readFileSync(kept[0]!, 'utf8')).toContain('use-after-unmap');
      const recording = RecordingReader.open(kept[2]!);
      expect(recording.records).toBeGreaterThan(100);
      recording.close();
      expect(readFileSync(kept[3]!, 'utf8')).toContain('Linux version');
    });
  });

  it('reaches a server through a bridge', async () => {
    const guest = await newGuest().withBridge().withModule(module).withoutRecording().start();
    try {
      expect(await guest.run(LOOP_BACK)).toEqual({ status: 0, output: '' });
      await expect(guest.machine).toHaveNoFindings();
      await expect(guest.recording()).rejects.toThrow('nothing is recorded');
    } finally {
      await guest.stop();
    }
    await expect.poll(() => server.machines(), { timeout: 20_000 }).toEqual([]);
  });

  it('says why a guest does not start, and leaves nothing of it', async () => {
    const before = await containers();
    await expect(newGuest().withBootOptions('--no-such-option').start()).rejects.toThrow(/no-such-option/);
    expect(await containers()).toEqual(before);
  });
});
