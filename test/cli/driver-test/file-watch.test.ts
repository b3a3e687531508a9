import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileWatch } from '../../../src/cli/driver-test/file-watch.ts';

let directory: string;
let open: FileWatch[];
const at = (name: string) => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-watch-'));
  mkdirSync(at('source'));
  writeFileSync(at('script'), 'one');
  writeFileSync(at('other'), 'one');
  writeFileSync(at('source/my.c'), 'int a;');
  open = [];
});
afterEach(() => {
  for (const one of open) one.close();
  rmSync(directory, { recursive: true, force: true });
});

async function watching(files = ['script', 'other'], folders: string[] = []): Promise<FileWatch> {
  const watch = new FileWatch(files.map(at), folders.map(at));
  open.push(watch);
  await watch.remember();
  return watch;
}

describe('FileWatch', () => {
  it('tells which file has changed', async () => {
    const watch = await watching();
    const changed = watch.changed();
    writeFileSync(at('other'), 'two');
    expect(await changed).toEqual([at('other')]);
  });

  it('tells what has changed while nobody waited', async () => {
    const watch = await watching();
    writeFileSync(at('script'), 'two');
    expect(await watch.changed()).toEqual([at('script')]);
  });

  it('follows a file that an editor replaces', async () => {
    const watch = await watching();
    for (const content of ['two', 'three']) {
      const changed = watch.changed();
      writeFileSync(at('script.tmp'), content);
      renameSync(at('script.tmp'), at('script'));
      expect(await changed).toEqual([at('script')]);
      await watch.remember();
    }
  });

  it('is not woken by a file that is written again as it was, but by the next that is not', async () => {
    const watch = await watching();
    const changed = watch.changed();
    writeFileSync(at('script'), 'one');
    writeFileSync(at('unknown'), 'x');
    writeFileSync(at('other'), 'two');
    expect(await changed).toEqual([at('other')]);
  });

  it('waits for a file that is gone for a while', async () => {
    const watch = await watching();
    const changed = watch.changed();
    rmSync(at('script'));
    writeFileSync(at('other'), 'two');
    // Longer than the watch waits by itself: it must not take this for all.
    const early = await Promise.race([changed, new Promise(resolve => setTimeout(resolve, 600, 'nothing'))]);
    expect(early).toBe('nothing');
    writeFileSync(at('script'), 'one');
    expect(await changed).toEqual([at('other')]);
  });

  it('sees sources that change, come and go, and none of what a build leaves', async () => {
    const watch = await watching([], ['source']);
    const seen = async (act: () => void) => {
      const changed = watch.changed();
      act();
      const paths = await changed;
      await watch.remember();
      return paths.filter(path => path !== at('source'));
    };
    expect(
      await seen(() => {
        writeFileSync(at('source/my.o'), 'x');
        writeFileSync(at('source/my.c'), 'int b;');
      }),
    ).toEqual([at('source/my.c')]);
    expect(await seen(() => writeFileSync(at('source/new.h'), 'x'))).toEqual([at('source/new.h')]);
    expect(await seen(() => rmSync(at('source/new.h')))).toEqual([at('source/new.h')]);
  });

  it('says so where there is nothing to watch', () => {
    expect(() => new FileWatch([at('none/file')], [])).toThrow(/^cannot watch the files: .*none/);
  });
});
