import { describe, expect, it } from 'vitest';
// The device thread is a worker, which runs compiled code.
import '../../dist/src/testing/vitest.js';
import { type Bench, connect, IOVA, NEVER_MAPPED, start, WAYS } from './support.ts';

const SOON = { timeoutMs: 1 };

/** The message with which an expectation fails. */
async function failure(expectation: Promise<unknown>): Promise<string> {
  try {
    await expectation;
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('the expectation did not fail');
}

/** The device's page is taken away while it is at rest, which is right, but its descriptor still names it. */
async function useAfterUnmap({ vtd, domain, edu }: Bench): Promise<void> {
  await edu.write(IOVA, 16);
  await vtd.unmap(domain, IOVA);
  await edu.write(IOVA, 16);
}

describe.each(WAYS)('toHaveNoFindings, %s', (_way, begin) => {
  it('holds for a driver that is right', async () => {
    const { machine, edu, vtd, domain } = await connect(await begin());
    await edu.write(IOVA, 16);
    await vtd.unmap(domain, IOVA);
    await expect(machine).toHaveNoFindings();
    expect(await failure(expect(machine).not.toHaveNoFindings())).toBe('expected findings, and there are none');
  });

  it('fails for one that is not, and says what was found', async () => {
    const bench = await connect(await begin());
    await useAfterUnmap(bench);
    const { machine } = bench;
    const message = await failure(expect(machine).toHaveNoFindings());
    expect(message).toMatch(/^expected no findings, and there are 1:\n {2}F1 warning use-after-unmap: .*0x4560000/);
    await expect(machine).not.toHaveNoFindings();
  });

  it('waits until it is decided whether an unmapped page was used by mistake', async () => {
    const { machine, edu, vtd, domain } = await connect(await begin());
    await edu.write(IOVA, 16);
    vtd.clear(domain, IOVA);
    await edu.write(IOVA, 16);
    expect(await failure(expect(machine).toHaveNoFindings())).toMatch(/F1 warning stale-iotlb/);
  });

  it('counts notes only where they are asked for', async () => {
    const { machine, edu, vtd, domain } = await connect(await begin());
    await edu.write(IOVA, 16);
    await vtd.detach('01:00.0', domain);
    await expect(machine).toHaveFinding('mapping-leak');
    await expect(machine).toHaveNoFindings();
    expect(await failure(expect(machine).toHaveNoFindings({ notes: true }))).toMatch(/note mapping-leak/);
  });
});

describe('a machine that looks for nothing', () => {
  const off = () => start({ sanitize: 'off' });

  it('has no findings that anybody could tell of', async () => {
    const machine = await off();
    const message = /looks for no mistakes/;
    expect(await failure(expect(machine).toHaveNoFindings())).toMatch(message);
    expect(await failure(expect(machine).toHaveFinding('stale-iotlb', {}, SOON))).toMatch(message);
    expect(await failure(expect(machine).not.toHaveFinding('stale-iotlb'))).toMatch(message);
  });
});

describe.each(WAYS)('toHaveFinding, %s', (_way, begin) => {
  it('holds for a finding that fits', async () => {
    const bench = await connect(await begin());
    await useAfterUnmap(bench);
    const { machine, domain } = bench;
    await expect(machine).toHaveFinding('use-after-unmap');
    await expect(machine).toHaveFinding('use-after-unmap', { device: 'edu0', iova: IOVA + 8n, domain: domain.id });
    await expect(machine).toHaveFinding('use-after-unmap', { device: '01:00.0', text: /0x4560000/ });
    await expect(machine).not.toHaveFinding('stale-iotlb');
    await expect(machine).not.toHaveFinding('use-after-unmap', { device: 'edu1' });
    await expect(machine).not.toHaveFinding('use-after-unmap', { iova: IOVA + 4096n });
  });

  it('waits for one that is not decided yet', async () => {
    const { machine, edu, vtd, domain } = await connect(await begin());
    await edu.write(IOVA, 16);
    vtd.clear(domain, IOVA);
    await edu.write(IOVA, 16);
    await expect(machine).toHaveFinding('stale-iotlb', { device: 'edu0', iova: IOVA });
  });

  it('says what was expected and what there is', async () => {
    const bench = await connect(await begin());
    const { machine } = bench;
    expect(await failure(expect(machine).toHaveFinding('stale-iotlb', { device: 'edu1' }, SOON))).toBe(
      'expected a finding of stale-iotlb of edu1; there are:\n  (none)',
    );
    await useAfterUnmap(bench);
    expect(await failure(expect(machine).toHaveFinding('stale-iotlb', { iova: IOVA }, SOON))).toMatch(
      /^expected a finding of stale-iotlb at 0x4560000; there are:\n {2}F1 warning use-after-unmap: /,
    );
    expect(await failure(expect(machine).not.toHaveFinding('use-after-unmap'))).toMatch(
      /^expected no such finding, and there is one:\n {2}F1 warning use-after-unmap: /,
    );
  });

  it.each(['', '.not'])('%s fails for a device that nobody has', async not => {
    const machine = await begin();
    const matcher = not === '' ? expect(machine) : expect(machine).not;
    expect(await failure(matcher.toHaveFinding('stale-iotlb', { device: 'eth0' }))).toBe(
      "there is no device 'eth0': the machine has edu0, edu1",
    );
  });
});

describe.each(WAYS)('toHaveTranslated, %s', (_way, begin) => {
  it('holds for what a device reached', async () => {
    const { machine, edu, page } = await connect(await begin());
    await edu.read(IOVA + 4n, 16);
    await expect(machine).toHaveTranslated({ iova: IOVA + 4n });
    await expect(machine).toHaveTranslated({ device: 'edu0', iova: IOVA + 19n, access: 'read', to: page + 19n });
    await expect(machine).toHaveTranslated({ device: '01:00.0', iova: IOVA + 4n });
    await expect(machine).not.toHaveTranslated({ iova: IOVA + 20n });
    await expect(machine).not.toHaveTranslated({ iova: IOVA + 4n, access: 'write' });
    await expect(machine).not.toHaveTranslated({ iova: IOVA + 4n, to: page });
    await expect(machine).not.toHaveTranslated({ iova: IOVA + 4n, device: 'edu1' });
  });

  it('sees each page of a scattered buffer', async () => {
    const { machine, edu, guest, vtd, domain, page } = await connect(await begin());
    guest.memory.allocate();
    const elsewhere = guest.memory.allocate();
    vtd.map(domain, IOVA + 4096n, elsewhere);
    await edu.write(IOVA + 4000n, 200);
    await expect(machine).toHaveTranslated({ iova: IOVA + 4095n, to: page + 4095n });
    await expect(machine).toHaveTranslated({ iova: IOVA + 4096n, to: elsewhere });
  });

  it('does not take what was refused for translated', async () => {
    const { machine, edu } = await connect(await begin());
    await edu.write(NEVER_MAPPED, 16);
    await expect(machine).not.toHaveTranslated({ iova: NEVER_MAPPED });
  });

  it('says what was expected and what there was', async () => {
    const { machine, edu, page } = await connect(await begin());
    expect(await failure(expect(machine).toHaveTranslated({ iova: IOVA }, SOON))).toBe(
      'expected a translation of any device access at 0x4560000; there was no translation at all',
    );
    await edu.read(IOVA, 16);
    const run = `edu0 read of 16 bytes at 0x4560000 -> 0x${page.toString(16)}`;
    const expected = { device: '01:00.0', iova: IOVA, access: 'write', to: 0x5000n } as const;
    expect(await failure(expect(machine).toHaveTranslated(expected, SOON))).toBe(
      `expected a translation of 01:00.0 write at 0x4560000 -> 0x5000; the last ones were:\n  ${run}`,
    );
    expect(await failure(expect(machine).not.toHaveTranslated({ iova: IOVA }))).toBe(
      `expected no such translation, and there is one: ${run}`,
    );
  });
});

describe('the matchers', () => {
  it('want a machine', async () => {
    const wanted = 'expect what startMachine, attachMachine or watchMachine gave';
    expect(await failure(expect({}).toHaveNoFindings())).toBe(wanted);
    expect(await failure(expect(undefined).not.toHaveFinding('stale-iotlb'))).toBe(wanted);
    expect(await failure(expect(7).toHaveTranslated({ iova: 0n }))).toBe(wanted);
  });

  it('cannot tell of translations that are not recorded', async () => {
    const machine = await start({ record: 'dma' });
    expect(await failure(expect(machine).not.toHaveTranslated({ iova: IOVA }))).toMatch(/are not recorded/);
  });

  it('do not say that there was no translation where records were lost', async () => {
    const machine = await start();
    machine.records.lost = 1;
    expect(await failure(expect(machine).not.toHaveTranslated({ iova: IOVA }))).toMatch(/some records were lost/);
    expect(await failure(expect(machine).toHaveTranslated({ iova: IOVA }, SOON))).toMatch(/\(some records were lost\)/);
  });
});
