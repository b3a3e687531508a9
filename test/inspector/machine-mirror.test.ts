import { describe, expect, it } from 'vitest';
import { MachineMirror } from '../../src/inspector/machine-mirror.ts';
import { connect, FakePort, serve } from './support.ts';

/** A busy machine may take its time to start and end threads. */
const eventually = <T>(look: () => T) => expect.poll(look, { timeout: 20_000 });

const described = () => Object.assign(new FakePort(), { description: {} });

async function mirrored(names: readonly string[]) {
  const ports = new Map(names.map(name => [name, described()] as const));
  const machines = new Map([...ports].map(([name, { port }]) => [name, port] as const));
  const { server: real } = await serve({ machines });
  const { server: shown, url } = await serve({ machines: new Map() });
  const errors: unknown[] = [];
  await MachineMirror.start(await connect(real.url), shown, error => errors.push(error));
  return { real, shown, ports, errors, client: await connect(url) };
}

describe('a mirror', () => {
  it('shows the machines that there are', async () => {
    const { shown, client, ports } = await mirrored(['m1', 'm2']);
    expect(shown.machines).toEqual(['m1', 'm2']);
    await client.at('m2').statistics();
    expect([...ports.values()].map(({ asked }) => asked.length)).toEqual([0, 1]);
  });

  it('follows those that come and go', async () => {
    const { real, shown, client, errors } = await mirrored([]);
    for (let round = 1; round <= 20; round++) {
      real.add(`m${round}`, described().port);
      if (round % 2 === 0) real.remove(`m${round / 2}`);
    }
    await eventually(() => shown.machines).toEqual(real.machines);
    expect(shown.machines).toHaveLength(10);
    await client.at('m20').statistics();
    for (const name of real.machines) real.remove(name);
    await eventually(() => shown.machines).toEqual([]);
    await expect(client.at('m20').statistics()).rejects.toMatchObject({ code: 'unknown-machine' });
    expect(errors).toEqual([]);
  });

  it('takes no more than one connection, for as many machines as a server makes', async () => {
    const names = Array.from({ length: 64 - 1 }, (_, at) => `m${at + 1}`);
    const { real, shown } = await mirrored(names);
    expect(shown.machines).toHaveLength(names.length);
    expect(real.clients).toBe(1);
  });
});
