import type { StartedTestContainer } from 'testcontainers';
import { describe, expect, it } from 'vitest';
import { StartedViommuContainer } from '../../src/testcontainers/started-viommu.ts';

/** A server whose container and volume do nothing but say what happens to them. */
function fakeServer() {
  const happened: string[] = [];
  const says = (what: string) => async () => {
    happened.push(what);
  };
  const container = { stop: says('server') } as unknown as StartedTestContainer;
  const server = new StartedViommuContainer(container, { name: 'volume', remove: says('volume') }, 'token');
  return { server, happened, guest: (name: string) => ({ stop: says(name) }) };
}

describe('a server that is stopped', () => {
  it('stops the guests that hold its volume first', async () => {
    const { server, happened, guest } = fakeServer();
    server.holdGuest(guest('one'));
    server.holdGuest(guest('two'));
    await server.stop();
    expect(happened).toEqual(['one', 'two', 'server', 'volume']);
  });

  it('leaves those alone that have been stopped', async () => {
    const { server, happened, guest } = fakeServer();
    server.holdGuest(guest('one'))();
    await server.stop();
    expect(happened).toEqual(['server', 'volume']);
  });
});
