import { describe, expect, it } from 'vitest';
import { LinkWatch } from '../../src/cli/link-watch.ts';

async function heard(...kinds: readonly (readonly [kind: string, source?: string])[]): Promise<string | undefined> {
  const watch = new LinkWatch();
  for (const [kind, source = 'edu0'] of kinds) watch.hear({ kind, source, detail: { reason: `why ${kind}` } });
  return await Promise.race([watch.dead, new Promise<undefined>(resolve => setImmediate(() => resolve(undefined)))]);
}

describe('a link', () => {
  it('that ends because QEMU does is no loss', async () => {
    expect(await heard(['link.opened'], ['client.closed'], ['link.closed'])).toBeUndefined();
  });

  it('that was away and came back may end, too', async () => {
    expect(await heard(['link.opened'], ['link.lost'], ['link.resumed'], ['link.closed'])).toBeUndefined();
  });

  it('that stays away is a loss', async () => {
    expect(await heard(['link.opened'], ['link.lost'], ['link.closed'])).toBe('edu0: why link.closed');
  });

  it('that cannot be made is one', async () => {
    expect(await heard(['link.failed', 'iommu'])).toBe('no connection to iommu: why link.failed');
  });

  it('is not taken for another', async () => {
    expect(await heard(['link.lost', 'edu1'], ['link.closed', 'edu0'])).toBeUndefined();
    expect(await heard(['link.lost', 'edu1'], ['link.resumed', 'edu0'], ['link.closed', 'edu1'])).toMatch(/^edu1/);
  });

  it('is a new one for the next QEMU', async () => {
    expect(await heard(['link.lost'], ['link.opened'], ['link.closed'])).toBeUndefined();
  });
});
