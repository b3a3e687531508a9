import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Docker } from './docker.ts';
import { containerEngine, runLabel, type TestImages, testImages, uniqueName } from './engine.ts';
import { untilHealthy } from './health.ts';

const engine = await containerEngine();
const skipped = 'skipped' in engine;

/** The program and its packages, beyond the image with Node: three times what it is. */
const MAX_SERVER_MEGABYTES = 30;
/** QEMU, firmware, kernel and modules beyond that: a half more than it is. */
const MAX_GUEST_MEGABYTES = 320;

describe.skipIf(skipped)(`the images${skipped ? ` (${engine.skipped})` : ''}`, () => {
  const docker = new Docker(skipped ? '' : engine.host);
  let images: TestImages;
  const made: string[] = [];
  const volumes: string[] = [];

  beforeAll(async () => {
    images = await testImages();
  });

  afterEach(async () => {
    if (made.length > 0) await docker.run('rm', '--force', ...made.splice(0));
    if (volumes.length > 0) await docker.run('volume', 'rm', ...volumes.splice(0));
  });

  async function start(...argv: readonly string[]): Promise<string> {
    const name = uniqueName();
    made.push(name);
    await docker.run('run', '--detach', '--name', name, '--label', runLabel(), ...argv);
    return name;
  }

  const once = (...argv: readonly string[]) => docker.run('run', '--rm', '--network', 'none', ...argv);

  it('add little to the image that they are made from', async () => {
    const megabytes: Record<string, number> = {};
    for (const [name, image] of Object.entries(images)) {
      const bytes = Number(await docker.run('image', 'inspect', '--format', '{{.Size}}', image));
      megabytes[name] = Math.round(bytes / 1e6);
      console.log(`${name.padEnd(11)} ${image}: ${megabytes[name]} MB`);
    }
    const { server = 0, qemu = 0, nodeBase = 0 } = megabytes;
    expect(server - nodeBase).toBeGreaterThan(0);
    expect(server - nodeBase).toBeLessThan(MAX_SERVER_MEGABYTES);
    expect(qemu - server).toBeGreaterThan(0);
    expect(qemu - server).toBeLessThan(MAX_GUEST_MEGABYTES);
  });

  it('have what they need at run time and nothing that only their build needs', async () => {
    const look = 'for name in gcc tsc vite; do command -v $name; done; ls /opt/viommu/node_modules';
    for (const image of [images.server, images.qemu]) {
      const modules = (await once('--entrypoint', 'bash', image, '-c', look)).split('\n').sort();
      expect(modules).toEqual(expect.arrayContaining(['@koromix', 'commander', 'koffi', 'msgpackr', 'ws']));
      expect(modules).not.toEqual(expect.arrayContaining(['typescript']));
      expect(modules.filter(name => name.startsWith('/'))).toEqual([]);
      expect(await once('--entrypoint', 'bash', image, '-c', 'ls /opt/viommu/node_modules/@koromix')).toBe(
        `koffi-linux-${process.arch}`,
      );
    }
  });

  it('run the program as an ordinary user, with a root file system that is read-only', async () => {
    for (const image of [images.server, images.qemu]) {
      expect(await once('--entrypoint', 'id', image)).toBe('uid=1000(viommu) gid=1000(viommu) groups=1000(viommu)');
      expect(await once('--read-only', image, '--version')).toMatch(/^\d+\.\d+\.\d+$/);
    }
  });

  it('have the guest ready: nothing is fetched, compiled or probed at run time', async () => {
    const said = await docker.try(
      ...['run', '--rm', '--network', 'none', '--read-only', '--tmpfs', '/tmp'],
      ...[images.qemu, 'demo', '--case', 'device-reads', '--json'],
    );
    expect(said.stderr).not.toMatch(/Downloading|Compiling|Building|Running the firmware/);
    expect(said.status, said.stderr).toBe(0);
    expect(JSON.parse(said.stdout)).toMatchObject({ passed: true });
  });

  it('start a server that is healthy soon, as an ordinary user, with a read-only root and no network', async () => {
    const name = await start('--network', 'none', '--read-only', '--tmpfs', '/run/viommu', images.server);
    console.log(`healthy ${await untilHealthy(docker, name)} ms after its start`);
    expect(await docker.run('exec', name, 'stat', '--format', '%u %a', '/run/viommu/server.sock')).toBe('1000 600');
  });

  it('start a server that SIGTERM ends with status 0, and that leaves no file', async () => {
    const volume = uniqueName();
    await docker.run('volume', 'create', '--label', runLabel(), volume);
    volumes.push(volume);
    const mount = ['--volume', `${volume}:/run/viommu`];
    const name = await start('--network', 'none', ...mount, images.server);
    await untilHealthy(docker, name);
    const list = () => once(...mount, '--entrypoint', 'ls', images.server, '--almost-all', '/run/viommu');
    expect((await list()).split('\n')).toEqual(expect.arrayContaining(['remote.json', 'server.sock']));
    await docker.run('kill', '--signal', 'SIGTERM', name);
    expect(await docker.run('wait', name)).toBe('0');
    expect(await list()).toBe('');
    made.splice(0);
    await docker.run('rm', name);
  });

  it('tell an engine that a server which does not answer is not well', async () => {
    const name = await start('--network', 'none', images.server);
    await untilHealthy(docker, name);
    const asked = await docker.try('exec', name, 'bash', '-c', 'rm /run/viommu/server.sock; healthy');
    expect(asked.status).toBe(1);
    expect(asked.stdout).toContain('server.sock');
  });
});
