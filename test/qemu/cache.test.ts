import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  cacheDirectory,
  exists,
  fingerprint,
  forgetFact,
  makeOnce,
  readFact,
  withLock,
  writeFact,
} from '../../qemu/cache.ts';
import { temporaryDirectory } from './support.ts';

const root = temporaryDirectory();
let count = 0;
const fresh = () => {
  const messages: string[] = [];
  return { cache: join(root, String(count++)), messages, progress: (message: string) => void messages.push(message) };
};

describe('the cache directory', () => {
  it('follows XDG_CACHE_HOME', () => {
    expect(cacheDirectory({ XDG_CACHE_HOME: '/x' })).toBe('/x/viommu');
  });

  it('is ~/.cache without it, or when it is relative', () => {
    expect(cacheDirectory({})).toBe(join(homedir(), '.cache/viommu'));
    expect(cacheDirectory({ XDG_CACHE_HOME: 'x' })).toBe(join(homedir(), '.cache/viommu'));
  });
});

describe('makeOnce', () => {
  it('makes a directory at the first call only', async () => {
    const options = fresh();
    let made = 0;
    const make = async (directory: string) => {
      made++;
      await writeFile(join(directory, 'file'), 'content');
    };
    const first = await makeOnce('trees/a', options, make);
    const second = await makeOnce('trees/a', options, make);
    expect(first).toBe(join(options.cache, 'trees/a'));
    expect(second).toBe(first);
    expect(made).toBe(1);
    expect(await readFile(join(first, 'file'), 'utf8')).toBe('content');
  });

  it('leaves nothing when the work fails, and passes the error on', async () => {
    const options = fresh();
    const failing = makeOnce('trees/a', options, async directory => {
      await writeFile(join(directory, 'half'), '');
      throw new Error('no network');
    });
    await expect(failing).rejects.toThrow('no network');
    expect(await readdir(join(options.cache, 'trees'))).toEqual([]);
  });

  it('starts anew where an interrupted process left half of the work', async () => {
    const options = fresh();
    await mkdir(join(options.cache, 'trees/a.partial'), { recursive: true });
    await writeFile(join(options.cache, 'trees/a.partial/half'), '');
    const made = await makeOnce('trees/a', options, directory => writeFile(join(directory, 'whole'), ''));
    expect(await readdir(made)).toEqual(['whole']);
    expect(await readdir(join(options.cache, 'trees'))).toEqual(['a']);
  });

  it('lets concurrent callers wait for one that works', async () => {
    const options = fresh();
    let made = 0;
    const callers = Array.from({ length: 4 }, () =>
      makeOnce('a', options, async () => {
        made++;
      }),
    );
    expect(new Set(await Promise.all(callers)).size).toBe(1);
    expect(made).toBe(1);
  });
});

describe('withLock', () => {
  it('admits one at a time and says that it waits', async () => {
    const options = fresh();
    let inside = 0;
    let most = 0;
    const work = async () => {
      most = Math.max(most, ++inside);
      await new Promise(resolve => setImmediate(resolve));
      inside--;
    };
    const others: Promise<void>[] = [];
    await withLock('x', options, async () => {
      others.push(withLock('x', options, work), withLock('x', options, work));
      await expect.poll(() => options.messages.length).toBe(2);
      expect(inside).toBe(0);
    });
    await Promise.all(others);
    expect(most).toBe(1);
    expect(options.messages[0]).toMatch(/Waiting for another process that is preparing x/);
  });

  it('is kept by another process until that ends', async () => {
    const options = fresh();
    await withLock('x', options, async () => {});
    const holder = spawn('flock', ['-x', join(options.cache, 'locks/x.lock'), 'sh', '-c', 'echo held; exec cat'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(holder.stdout, 'data');
    let entered = false;
    const waiting = withLock('x', options, async () => {
      entered = true;
    });
    await expect.poll(() => options.messages.length).toBe(1);
    expect(entered).toBe(false);
    // Ends cat by the end of its input and flock with it.
    holder.stdin.end();
    await waiting;
    expect(entered).toBe(true);
  });

  it('is given back when the work fails', async () => {
    const options = fresh();
    await expect(withLock('x', options, () => Promise.reject(new Error('oops')))).rejects.toThrow('oops');
    expect(await withLock('x', options, async () => 7)).toBe(7);
    expect(options.messages).toEqual([]);
  });
});

describe('facts', () => {
  it('are read as written, until forgotten', async () => {
    const { cache } = fresh();
    expect(await readFact('a', cache)).toBeUndefined();
    await writeFact('a', { address: '0x10' }, cache);
    expect(await readFact('a', cache)).toEqual({ address: '0x10' });
    expect(await readdir(join(cache, 'facts'))).toEqual(['a.json']);
    await forgetFact('a', cache);
    expect(await exists(join(cache, 'facts/a.json'))).toBe(false);
  });

  it('that are no JSON count as not there', async () => {
    const { cache } = fresh();
    await writeFact('a', 1, cache);
    await writeFile(join(cache, 'facts/a.json'), '{"addr');
    expect(await readFact('a', cache)).toBeUndefined();
  });
});

describe('fingerprint', () => {
  it('differs with any part and is the same for the same parts', () => {
    expect(fingerprint(['a', 1])).toBe(fingerprint(['a', 1]));
    expect(fingerprint(['a', 1])).not.toBe(fingerprint(['a', 2]));
    expect(fingerprint(['a', 1])).toMatch(/^[0-9a-f]{24}$/);
  });
});
