import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { VfioUserClient } from '../../src/vfio-user/client.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { MigrationClient } from '../../src/vfio-user/migration-client.ts';
import { type RunningProgram, startProgram } from '../support.ts';

const PATIENCE_MS = 20_000;
const servers: RunningProgram[] = [];
const directories: string[] = [];

async function serve(loop: EventLoop): Promise<VfioUserClient> {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-processes-'));
  directories.push(directory);
  const server = startProgram(['serve', '--dir', directory, '--device', 'edu@01:00.0']);
  servers.push(server);
  await server.says(/^ready/m);
  const client = new VfioUserClient(loop, join(directory, 'edu0.sock'), { replyTimeout: PATIENCE_MS });
  client.negotiate();
  return client;
}

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.child.kill('SIGTERM');
    await server.ended;
  }
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
});

describe('two server processes', () => {
  it('hand a device over in the middle of its work', async () => {
    const loop = new EventLoop(failure => {
      throw failure;
    });
    const source = await serve(loop);
    const from = new MigrationClient(source);
    from.setState(MigrationState.stop);
    source.regionWrite(0, 0x08, Uint8Array.of(5, 0, 0, 0));
    expect(source.regionRead(0, 0x20, 4)[0]).toBe(1);
    from.setState(MigrationState.stopCopy);
    const state = from.readAll(100);
    source.close();

    const target = await serve(loop);
    const to = new MigrationClient(target);
    to.setState(MigrationState.resuming);
    to.writeAll(state, 1000);
    to.setState(MigrationState.running);
    const deadline = performance.now() + PATIENCE_MS;
    while ((target.regionRead(0, 0x20, 4)[0]! & 1) !== 0) expect(performance.now()).toBeLessThan(deadline);
    expect(target.regionRead(0, 0x08, 4)).toEqual(Uint8Array.of(120, 0, 0, 0));
    target.close();
    loop.close();
  });
});
