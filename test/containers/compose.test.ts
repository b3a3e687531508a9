import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../qemu/run.ts';
import { Compose, type ServiceChanges } from './compose.ts';
import { Docker } from './docker.ts';
import { containerEngine, type TestImages, testImages, uniqueName } from './engine.ts';
import { untilSays } from './health.ts';

const engine = await containerEngine();
const skipped = 'skipped' in engine;

/** The demo's cases take their time without KVM; one of them shows that everything is connected. */
const ONE_CASE = ['--case', 'device-reads'];
const PASSED = /PASS {2}device-reads[\s\S]*PASS: 1 cases passed, 0 failed/;

describe.skipIf(skipped)(`docker compose${skipped ? ` (${engine.skipped})` : ''}`, () => {
  const docker = new Docker(skipped ? '' : engine.host);
  let images: TestImages;
  let compose: Compose | undefined;

  beforeAll(async () => {
    images = await testImages();
  });

  afterEach(async () => {
    await compose?.down();
    compose = undefined;
  });

  async function open(changes: ServiceChanges = {}, environment: Record<string, string> = {}): Promise<Compose> {
    compose = await Compose.open(uniqueName(), docker, images, changes, environment);
    return compose;
  }

  const up = (project: Compose, ...argv: readonly string[]) => project.start('up', '--no-build', ...argv);
  const upTo = (project: Compose, guest: string) =>
    up(project, '--abort-on-container-exit', '--exit-code-from', guest, guest).ended;

  it('runs the demo against a server in a container of its own, and ends with its status', async () => {
    const { status, output } = await upTo(await open(), 'guest');
    expect(status, output).toBe(0);
    expect(output).toMatch(/PASS {2}device-reads/);
    expect(output).toMatch(/PASS {2}use-after-unmap/);
    expect(output).toMatch(/PASS: \d+ cases passed, 0 failed/);
  });

  it('ends with a status that is not 0 where the demo fails', async () => {
    const project = await open({ guest: { command: ['demo', '--server', '/run/viommu', '--case', 'no-such-case'] } });
    expect((await upTo(project, 'guest')).status).not.toBe(0);
  });

  it('runs four guests on one server, each with a machine of its own, and one of them again', async () => {
    const project = await open({ guest: { command: ['demo', '--server', '/run/viommu', ...ONE_CASE] } });
    const started = await up(project, '--detach', '--scale', 'guest=4', 'guest').ended;
    expect(started.status, started.output).toBe(0);
    const guests = await project.containers('guest');
    expect(guests).toHaveLength(4);
    for (const guest of guests) {
      const status = await docker.run('wait', guest);
      const { stdout, stderr } = await docker.try('logs', guest);
      expect(status, stdout + stderr).toBe('0');
      expect(stdout).toMatch(PASSED);
    }
    const [again = ''] = guests;
    await docker.run('start', again);
    expect(await docker.run('wait', again)).toBe('0');
  });

  it('ends where the server is killed in the middle, and the guest says so', async () => {
    const command = ['demo', '--server', '/run/viommu', '--rounds', '1000', ...ONE_CASE];
    const project = await open({ guest: { command } });
    const all = up(project, 'guest');
    await all.says(/PASS {2}device-reads/);
    const [server = ''] = await project.containers('server');
    await docker.run('kill', server);
    const { output } = await all.ended;
    const [guest = ''] = await project.containers('guest');
    expect(await docker.inspect(guest, '{{.State.Running}}')).toBe('false');
    expect(Number(await docker.inspect(guest, '{{.State.ExitCode}}')), output).toBeGreaterThan(0);
    const { stderr } = await docker.try('logs', guest);
    expect(stderr).toMatch(
      /^viommu: the machine is gone, and with it the guest's devices: the server \/run\/viommu: .+\. Look at what the server said/m,
    );
  });

  it('runs with memory that is reached by messages', async () => {
    const command = ['demo', '--server', '/run/viommu', '--memory', 'message', ...ONE_CASE];
    const { status, output } = await upTo(await open({ 'guest-message': { command } }), 'guest-message');
    expect(status, output).toBe(0);
    expect(output).toMatch(/message memory/);
  });

  it('shows the page of what runs to a browser on this machine', async () => {
    const token = randomBytes(16).toString('hex');
    const project = await open({}, { VIOMMU_INSPECT_PORT: '0', VIOMMU_TOKEN: token });
    const started = await up(project, '--detach', 'inspector').ended;
    expect(started.status, started.output).toBe(0);
    const [inspector = ''] = await project.containers('inspector');
    await untilSays(docker, inspector, /http:\/\//);
    const place = await docker.run('port', inspector, '7181/tcp');
    expect(place).toMatch(/^127\.0\.0\.1:\d+$/);
    const page = await fetch(`http://${place}/`);
    expect(page.status).toBe(200);
    expect(await page.text()).toMatch(/<html/i);
  });

  it('runs over a network alone', async () => {
    const command = ['demo', '--server', 'ws://server-bridge:7180', ...ONE_CASE];
    const project = await open({ 'guest-bridge': { command } }, { VIOMMU_TOKEN: randomBytes(16).toString('hex') });
    const { status, output } = await upTo(project, 'guest-bridge');
    expect(status, output).toBe(0);
    expect(output).toMatch(/PASS: 1 cases passed, 0 failed/);
  });

  describe('with a certificate', () => {
    let directory: string;

    beforeAll(async () => {
      directory = await mkdtemp(join(tmpdir(), 'viommu-tls-'));
      await chmod(directory, 0o755);
      const made = await run([
        ...['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'],
        ...['-days', '1', '-subj', '/CN=server-tls', '-addext', 'subjectAltName=DNS:server-tls'],
        ...['-keyout', join(directory, 'key.pem'), '-out', join(directory, 'cert.pem')],
      ]);
      expect(made.status, made.stderr).toBe(0);
      for (const file of ['key.pem', 'cert.pem']) await chmod(join(directory, file), 0o644);
    });

    afterAll(async () => {
      await rm(directory, { recursive: true, force: true });
    });

    it('runs over an encrypted network', async () => {
      const command = ['demo', '--server', 'wss://server-tls:7180', '--ca', '/run/tls/cert.pem', ...ONE_CASE];
      const { status, output } = await upTo(
        await open({ 'guest-tls': { command } }, { VIOMMU_TLS: directory }),
        'guest-tls',
      );
      expect(status, output).toBe(0);
      expect(output).toMatch(/PASS: 1 cases passed, 0 failed/);
    });
  });
});
