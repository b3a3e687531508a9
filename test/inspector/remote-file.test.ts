import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { REMOTE_FILE, readRemoteFile, removeRemoteFile, writeRemoteFile } from '../../src/inspector/remote-file.ts';

const directories: string[] = [];

function directory(): string {
  const made = mkdtempSync(join(tmpdir(), 'viommu-remote-file-'));
  directories.push(made);
  return made;
}

afterEach(() => {
  for (const one of directories.splice(0)) rmSync(one, { recursive: true });
});

describe('the file that tells where a server is', () => {
  it.each([{ url: 'ws://127.0.0.1:1' }, { url: 'ws://0.0.0.0:1', token: 'secret' }])('tells %o', address => {
    const where = directory();
    writeRemoteFile(where, address);
    expect(readRemoteFile(where)).toEqual(address);
  });

  it('tells several, the first of which is to be taken', () => {
    const where = directory();
    const others = [{ url: 'wss://0.0.0.0:1', token: 'secret' }, { url: 'ws://127.0.0.1:2' }];
    writeRemoteFile(where, { url: 'ws+unix:/elsewhere/server.sock:/' }, others);
    expect(readRemoteFile(where)).toEqual({ url: 'ws+unix:/elsewhere/server.sock:/', others });
  });

  it('finds a unix socket where its directory has another name', () => {
    const where = directory();
    writeFileSync(join(where, 'server.sock'), '');
    writeRemoteFile(where, { url: 'ws+unix:/run/viommu/server.sock:/' });
    expect(readRemoteFile(where)).toEqual({ url: `ws+unix:${where}/server.sock:/` });
  });

  it('is readable by its owner alone, even where it was there already', () => {
    const where = directory();
    const path = join(where, REMOTE_FILE);
    writeFileSync(path, '{}');
    chmodSync(path, 0o644);
    writeRemoteFile(where, { url: 'ws://127.0.0.1:1', token: 'secret' });
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('may be missing, and can be removed twice', () => {
    const where = directory();
    writeRemoteFile(where, { url: 'ws://127.0.0.1:1' });
    removeRemoteFile(where);
    removeRemoteFile(where);
    expect(readRemoteFile(where)).toBeUndefined();
  });

  it.each(['', '{', '{}', '[]', 'null', '{"url":1}', '{"url":"a","more":1}', '{"url":"a","others":[{}]}'])(
    'tells nothing where it is %o',
    text => {
      const where = directory();
      writeFileSync(join(where, REMOTE_FILE), text);
      expect(readRemoteFile(where)).toBeUndefined();
    },
  );
});
