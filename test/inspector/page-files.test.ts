import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadPage, MAX_PAGE_FILES, PAGE_DIRECTORY } from '../../src/inspector/page-files.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-page-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

function put(path: string, text = path): void {
  mkdirSync(join(directory, path, '..'), { recursive: true });
  writeFileSync(join(directory, path), text);
}

describe('the page’s files', () => {
  it('are found by path, the index twice', () => {
    put('index.html');
    put('assets/index-Bx12_a-9.js');
    put('assets/style.css');
    put('icon.svg');
    const files = loadPage(directory);
    expect([...files.keys()].sort()).toEqual([
      '/',
      '/assets/index-Bx12_a-9.js',
      '/assets/style.css',
      '/icon.svg',
      '/index.html',
    ]);
    expect(files.get('/')).toBe(files.get('/index.html'));
    expect(files.get('/assets/index-Bx12_a-9.js')).toMatchObject({
      type: 'text/javascript; charset=utf-8',
      hashed: true,
    });
    expect(files.get('/assets/style.css')).toMatchObject({ type: 'text/css; charset=utf-8', hashed: false });
    expect(files.get('/icon.svg')!.bytes.toString()).toBe('icon.svg');
  });

  it('are no symbolic links, and of known kinds only', () => {
    put('index.html');
    put('secret.key');
    symlinkSync('/etc/hostname', join(directory, 'name.html'));
    symlinkSync('/etc', join(directory, 'etc'));
    symlinkSync(join(directory, 'index.html'), join(directory, 'again.html'));
    expect([...loadPage(directory).keys()].sort()).toEqual(['/', '/index.html']);
  });

  it.each(['nowhere', '.'])('that are not there are to be built (%s)', where => {
    expect(() => loadPage(join(directory, where))).toThrow(/npm run build/);
  });

  it('are of a limited number', () => {
    put('index.html');
    for (let i = 0; i < MAX_PAGE_FILES; i++) put(`a${i}.js`);
    expect(() => loadPage(directory)).toThrow(/more than/);
  });

  it('are where the build puts them', () => {
    expect(PAGE_DIRECTORY).toBe(join(import.meta.dirname, '..', '..', 'dist', 'inspector-page'));
  });
});
