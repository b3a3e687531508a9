import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type CommandResult,
  type GuestAgent,
  MAX_COMMAND_BYTES,
  MAX_INPUT_CHARACTERS,
  type RunOptions,
} from '../../images/guest/agent.ts';
import { copyIn } from '../../images/guest/copy-in.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-copy-'));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** This machine's own shell in the guest's place; `spoil` and `spoilInput` may change what arrives. */
function agent(spoil = (command: string) => command, spoilInput = (input: string) => input) {
  const commands: string[] = [];
  const inputs: string[] = [];
  const run = (command: string, { input = '' }: RunOptions = {}): Promise<CommandResult> => {
    commands.push(command);
    if (input !== '') inputs.push(input);
    return new Promise(resolve => {
      const child = execFile('sh', ['-c', `{ ${spoil(command)}; } 2>&1`], (error, stdout) => {
        const output = stdout.split('\n').filter(line => line !== '');
        resolve({ status: error === null ? 0 : Number(error.code), output });
      });
      child.stdin!.on('error', () => {});
      child.stdin!.end(spoilInput(input));
    });
  };
  return { commands, inputs, agent: { run } as unknown as GuestAgent };
}

describe('copyIn', () => {
  it('brings any bytes as they are', async () => {
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 9000, size: 'max' }), async bytes => {
        const path = join(directory, 'any', `file${count++}`);
        await copyIn(agent().agent, bytes, path);
        expect(Buffer.compare(readFileSync(path), Buffer.from(bytes))).toBe(0);
      }),
      { numRuns: 15 },
    );
  });

  it('sends no command and no input that is longer than the agent takes', async () => {
    const { agent: guest, commands, inputs } = agent();
    const bytes = randomBytes(300_000);
    await copyIn(guest, bytes, join(directory, 'long'));
    expect(Buffer.compare(readFileSync(join(directory, 'long')), bytes)).toBe(0);
    expect(inputs.length).toBe(4);
    expect(Math.max(...inputs.map(input => input.length))).toBeLessThanOrEqual(MAX_INPUT_CHARACTERS);
    expect(Math.max(...commands.map(command => Buffer.byteLength(command)))).toBeLessThanOrEqual(MAX_COMMAND_BYTES);
  });

  it('takes paths with special characters, and makes the folders above', async () => {
    const path = join(directory, "a b/it's $HOME", 'x;y');
    await copyIn(agent().agent, Buffer.from('content'), path);
    expect(readFileSync(path, 'utf8')).toBe('content');
  });

  it('sets the mode, 0644 where none is given', async () => {
    const modeOf = async (mode?: number) => {
      const path = join(directory, `mode${mode}`);
      await copyIn(agent().agent, Buffer.from('x'), path, mode);
      return statSync(path).mode & 0o7777;
    };
    expect([await modeOf(), await modeOf(0o755), await modeOf(0o4711)]).toEqual([0o644, 0o755, 0o4711]);
  });

  it('replaces a file as a whole, and leaves nothing beside it', async () => {
    const folder = join(directory, 'replaced');
    mkdirSync(folder);
    writeFileSync(join(folder, 'file'), 'much longer than what comes');
    await copyIn(agent().agent, Buffer.from('new'), join(folder, 'file'));
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('new');
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('refuses what arrives damaged, keeps the old file, and leaves nothing', async () => {
    const folder = join(directory, 'damaged');
    mkdirSync(folder);
    writeFileSync(join(folder, 'file'), 'old');
    // The archive is whole, the file is not.
    const spoil = (command: string) => command.replace(/gunzip -c (\S+) >(\S+)/, 'gunzip -c $1 | tr n m >$2');
    const copy = copyIn(agent(spoil).agent, Buffer.from('new'), join(folder, 'file'));
    await expect(copy).rejects.toThrow(/arrived damaged in the guest: SHA-256 [0-9a-f]{64}, not [0-9a-f]{64}$/);
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(['file']);
  });

  it('refuses a chunk that got lost', async () => {
    const { agent: guest } = agent(undefined, () => '');
    await expect(copyIn(guest, Buffer.from('new'), join(directory, 'lost'))).rejects.toThrow(/cannot copy/);
  });

  it('says what the guest says where it cannot be written', async () => {
    await expect(copyIn(agent().agent, Buffer.from('x'), '/proc/nowhere/file')).rejects.toThrow(
      /^cannot copy to \/proc\/nowhere\/file in the guest: .*nowhere/,
    );
  });

  it('refuses a folder, which a rename would put the file into', async () => {
    const folder = join(directory, 'folder');
    mkdirSync(folder);
    await expect(copyIn(agent().agent, Buffer.from('x'), folder)).rejects.toThrow(/cannot copy/);
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    ['relative', 0o644],
    ['/folder/', 0o644],
    ['/file', -1],
    ['/file', 0o10000],
    [`/too/long/${'x'.repeat(MAX_COMMAND_BYTES)}`, 0o644],
  ])('refuses the path %.9s with mode %s before anything is written', async (path, mode) => {
    const { agent: guest, commands } = agent();
    await expect(copyIn(guest, Buffer.from('x'), path, mode)).rejects.toThrow(/cannot copy to/);
    expect(commands.filter(command => /base64|mv/.test(command))).toEqual([]);
  });
});
