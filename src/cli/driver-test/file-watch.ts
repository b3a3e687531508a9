/** Tells when the content of files has changed, and not when somebody only writes the same again, or is not done yet. */
import { createHash } from 'node:crypto';
import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CommandFailure } from '../errors.ts';
import { moduleSources } from './source.ts';

/** A compiler or an editor that writes in several steps is quiet for less. */
const QUIET_MS = 150;

/** Content by path; a file that is not there, or cannot be read, has none. */
type Snapshot = ReadonlyMap<string, string | undefined>;

export class FileWatch {
  private readonly watchers: FSWatcher[] = [];
  private known: Snapshot = new Map();
  private timer: NodeJS.Timeout | undefined;
  private failure: Error | undefined;
  private waiting: { resolve(changed: string[]): void; reject(error: Error): void } | undefined;

  /** @param folders of module sources: every source in them, also those that come later. */
  constructor(
    private readonly files: readonly string[],
    private readonly folders: readonly string[],
  ) {
    try {
      // A file's folder: editors and compilers put a new file in its place.
      for (const folder of new Set(files.map(file => dirname(file)))) this.listen(folder, false);
      for (const folder of folders) this.listen(folder, true);
    } catch (error) {
      this.close();
      throw new CommandFailure(`cannot watch the files: ${(error as Error).message}`);
    }
  }

  /** What is there now is what changes are told against. */
  async remember(): Promise<void> {
    this.known = await this.look();
  }

  /** Resolves with the paths whose content differs, once nothing has happened for a moment and all the files are there. */
  async changed(): Promise<string[]> {
    if (this.failure !== undefined) throw this.failure;
    const result = new Promise<string[]>((resolve, reject) => {
      this.waiting = { resolve, reject };
    });
    // Something may have happened while nobody waited.
    this.soon();
    return await result;
  }

  close(): void {
    clearTimeout(this.timer);
    this.waiting = undefined;
    for (const watcher of this.watchers) watcher.close();
  }

  private listen(folder: string, recursive: boolean): void {
    const watcher = watch(folder, { recursive }, () => this.soon());
    watcher.on('error', error => this.fail(new CommandFailure(`cannot watch ${folder} any more: ${error.message}`)));
    this.watchers.push(watcher);
  }

  private soon(): void {
    if (this.waiting === undefined) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.compare().catch((error: Error) => this.fail(error));
    }, QUIET_MS);
  }

  private async compare(): Promise<void> {
    const now = await this.look();
    // It comes back: then something happens again.
    if ([...this.files, ...this.folders].some(path => now.get(path) === undefined)) return;
    const changed = [...new Set([...now.keys(), ...this.known.keys()])].filter(
      path => now.get(path) !== this.known.get(path),
    );
    if (changed.length === 0) return;
    this.waiting?.resolve(changed);
    this.waiting = undefined;
  }

  private fail(error: Error): void {
    this.failure = error;
    this.waiting?.reject(error);
    this.waiting = undefined;
  }

  private async look(): Promise<Snapshot> {
    const sources = await Promise.all(this.folders.map(sourcesOf));
    const paths = [...new Set([...this.files, ...sources.flat()])];
    const contents = await Promise.all(paths.map(async path => [path, await contentOf(path)] as const));
    return new Map([
      ...this.folders.map((folder, index) => [folder, sources[index]!.join('\n') || undefined] as const),
      ...contents,
    ]);
  }
}

/** None while the folder, or one in it, is being replaced. */
async function sourcesOf(folder: string): Promise<string[]> {
  try {
    return (await moduleSources(folder)).sort();
  } catch {
    return [];
  }
}

async function contentOf(path: string): Promise<string | undefined> {
  try {
    return createHash('sha256')
      .update(await readFile(path))
      .digest('hex');
  } catch {
    return undefined;
  }
}
