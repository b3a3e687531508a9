import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fileInArchive } from '../../src/testcontainers/archive.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-archive-'));
});

afterAll(() => rmSync(directory, { recursive: true }));

function archive(format: string, ...names: string[]): Buffer {
  const { status, stdout, stderr } = spawnSync('tar', ['-C', directory, `--format=${format}`, '-cf', '-', ...names]);
  expect(stderr.toString()).toBe('');
  expect(status).toBe(0);
  return stdout;
}

async function* pieces(bytes: Buffer, length: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

function write(name: string, content: string | Uint8Array): string {
  writeFileSync(join(directory, name), content);
  return name;
}

const LONG_NAME = `${'long-'.repeat(30)}name`;

describe.each(['ustar', 'gnu', 'pax'])('an archive in the format %s', format => {
  it('gives its file', async () => {
    const name = write('file', 'what is in it\n');
    expect((await fileInArchive(pieces(archive(format, name), 1000))).toString()).toBe('what is in it\n');
  });

  it('gives an empty file', async () => {
    const name = write('empty', '');
    expect(await fileInArchive(pieces(archive(format, name), 512))).toHaveLength(0);
  });

  it('gives the first of two files', async () => {
    const names = [write('first', 'one'), write('second', 'two')];
    expect((await fileInArchive(pieces(archive(format, ...names), 4096))).toString()).toBe('one');
  });

  it('gives a file of any length, in whatever pieces it comes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 2000 }), fc.integer({ min: 1, max: 3000 }), async (bytes, length) => {
        const got = await fileInArchive(pieces(archive(format, write('any', bytes)), length));
        expect(got.equals(Buffer.from(bytes))).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  it('rejects where the file is cut short', async () => {
    const whole = archive(format, write('cut', new Uint8Array(3000)));
    await expect(fileInArchive(pieces(whole.subarray(0, 2000), 512))).rejects.toThrow('the archive is cut short');
  });
});

describe.each(['gnu', 'pax'])('a long name in the format %s', format => {
  it('comes before the file in an entry of its own', async () => {
    const name = write(LONG_NAME, 'long');
    expect((await fileInArchive(pieces(archive(format, name), 512))).toString()).toBe('long');
  });
});

describe('what is no archive of a file', () => {
  it('rejects where there is nothing', async () => {
    await expect(fileInArchive(pieces(Buffer.alloc(0), 1))).rejects.toThrow('no file in the archive');
    await expect(fileInArchive(pieces(Buffer.alloc(1024), 512))).rejects.toThrow('no file in the archive');
  });

  it('rejects a folder', async () => {
    mkdirSync(join(directory, 'folder'));
    await expect(fileInArchive(pieces(archive('ustar', 'folder'), 512))).rejects.toThrow('no file in the archive');
  });

  it('rejects a length that is no number', async () => {
    const whole = archive('ustar', write('bad', 'x'));
    whole.write('nonsense', 124, 'latin1');
    await expect(fileInArchive(pieces(whole, 512))).rejects.toThrow('malformed header');
  });

  it('never ends otherwise than with a file or an error, whatever comes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 512, maxLength: 3000 }), async bytes => {
        await fileInArchive(pieces(Buffer.from(bytes), 512)).then(
          file => expect(file.length).toBeLessThan(bytes.length),
          error => expect((error as Error).message).toMatch(/archive/),
        );
      }),
    );
  });
});
