import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { removeLeftovers } from '../../src/inspector/leftovers.ts';
import { closeDescriptor, listenUnix } from '../../src/posix/socket.ts';
import { temporaryDirectory } from '../guest/support.ts';
import { later } from './support.ts';

function directory(): string {
  const { path, remove } = temporaryDirectory();
  later(remove);
  return path;
}

function machineIn(path: string, name: string): { readonly place: string; readonly listener: number } {
  const place = join(path, name);
  mkdirSync(place);
  writeFileSync(join(place, 'machine.json'), '{}');
  return { place, listener: listenUnix(join(place, 'iommu.sock')) };
}

describe('what a killed server left', () => {
  it('is removed, and nothing else', async () => {
    const path = directory();
    for (const name of ['m1', 'm17']) closeDescriptor(machineIn(path, name).listener);
    for (const name of ['m0', 'm', 'mine', 'm1x']) mkdirSync(join(path, name));
    writeFileSync(join(path, 'm2'), 'a file');
    await removeLeftovers(path);
    expect(readdirSync(path).sort()).toEqual(['m', 'm0', 'm1x', 'm2', 'mine']);
  });

  it('is none where a server answers', async () => {
    const path = directory();
    const { place, listener } = machineIn(path, 'm1');
    later(() => closeDescriptor(listener));
    await expect(removeLeftovers(path)).rejects.toThrow(/another server answers at .*iommu\.sock/);
    expect(existsSync(join(place, 'machine.json'))).toBe(true);
  });

  it.each(['notes.txt', 'sub'])('is not taken for ours where %s is in it', async name => {
    const path = directory();
    const place = join(path, 'm1');
    mkdirSync(place);
    if (name === 'sub') mkdirSync(join(place, name));
    else writeFileSync(join(place, name), 'mine');
    await expect(removeLeftovers(path)).rejects.toThrow(new RegExp(`${name} is in the way`));
    expect(existsSync(join(place, name))).toBe(true);
  });
});
