/** A machine that somebody else has leased of a server. */
import { expect, it } from 'vitest';
import { Leases } from '../../dist/src/inspector/leases.js';
import { RemoteMachine } from '../../dist/src/inspector/remote-client.js';
// The device thread is a worker, which runs compiled code.
import { RemoteServer } from '../../dist/src/inspector/remote-server.js';
import { attachMachine } from '../../dist/src/testing/machine.js';
import { describeMachine } from '../../src/machine/description.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { later } from '../inspector/support.ts';

it('ends for those who watch it, when its lease does', async () => {
  const { path: directory, remove } = temporaryDirectory();
  later(remove);
  const description = describeMachine('vtd', ['edu@01:00.0']);
  const server = await RemoteServer.start({ leases: shelf => new Leases({ directory, shelf, description }) });
  later(() => server.close());
  const leased = await RemoteMachine.lease(server.url);
  later(() => leased.machine.close());
  const watched = await attachMachine({ url: server.url, machine: leased.machine.name });
  later(() => watched.stop());
  expect(watched.ended).toBe(false);
  await leased.release();
  await expect.poll(() => watched.ended, { timeout: 20_000 }).toBe(true);
});
