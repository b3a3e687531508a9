/** The built page in memory: what is not in it cannot be asked for, whatever a path looks like. */
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const MAX_PAGE_FILES = 256;
export const MAX_PAGE_BYTES = 32 * 1024 * 1024;
const MAX_DEPTH = 8;

/** What the page is built of. Others are not served. */
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.ico': 'image/x-icon',
  '.woff2': 'font/woff2',
  '.wasm': 'application/wasm',
};

/** As Vite names what never changes: NAME-HASH.EXTENSION in `assets`. */
const HASHED = /^\/assets\/[^/]+-[\w-]{8,}\.[a-z0-9]+$/;

export interface PageFile {
  readonly type: string;
  readonly bytes: Buffer;
  /** Its name changes with its content. */
  readonly hashed: boolean;
}

/** There is no page; the message says what to do. */
export class PageError extends Error {
  override readonly name = 'PageError';
}

/** Where the build puts it: beside the compiled program. */
export const PAGE_DIRECTORY = builtPage();

function builtPage(): string {
  const here = fileURLToPath(import.meta.url);
  // dist/src/inspector/page-files.js, or src/inspector/page-files.ts where it is not compiled.
  return fileURLToPath(
    new URL(here.endsWith('.ts') ? '../../dist/inspector-page' : '../../inspector-page', import.meta.url),
  );
}

/** By path, `/` among them. Symbolic links are left out. Throws a `PageError` where there is no page, or too much of it. */
export function loadPage(directory: string = PAGE_DIRECTORY): ReadonlyMap<string, PageFile> {
  const files = new Map<string, PageFile>();
  let bytes = 0;
  const visit = (folder: string, path: string, depth: number) => {
    for (const name of readdirSync(folder).sort()) {
      const place = join(folder, name);
      const what = lstatSync(place);
      if (what.isDirectory() && depth < MAX_DEPTH) visit(place, `${path}${name}/`, depth + 1);
      const type = CONTENT_TYPES[extname(name)];
      if (!what.isFile() || type === undefined) continue;
      bytes += what.size;
      if (files.size >= MAX_PAGE_FILES || bytes > MAX_PAGE_BYTES) {
        throw new PageError(`${directory} holds more than ${MAX_PAGE_FILES} files or ${MAX_PAGE_BYTES} bytes`);
      }
      const url = path + name;
      files.set(url, { type, bytes: readFileSync(place), hashed: HASHED.test(url) });
    }
  };
  try {
    visit(directory, '/', 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  const index = files.get('/index.html');
  if (index === undefined) throw new PageError(`the inspector's page is not built: npm run build makes ${directory}`);
  files.set('/', index);
  return files;
}
