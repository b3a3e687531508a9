import { describe, expect, it } from 'vitest';
import { megabytes } from '../../qemu/progress.ts';
import { CommandMissing, run } from '../../qemu/run.ts';

describe('run', () => {
  it('gives status and both outputs', async () => {
    const result = await run(['sh', '-c', 'echo out; echo err >&2; exit 3']);
    expect(result).toEqual({ status: 3, stdout: 'out\n', stderr: 'err\n' });
  });

  it('passes arguments as they are', async () => {
    const result = await run(['printf', '%s|', 'a b', '$HOME', "'"]);
    expect(result.stdout).toBe("a b|$HOME|'|");
  });

  it('counts a signal as shells do', async () => {
    expect((await run(['sh', '-c', 'kill -TERM $$'])).status).toBe(128 + 15);
  });

  it('names a command that does not exist', async () => {
    await expect(run(['no-such-command-here'])).rejects.toThrow(CommandMissing);
  });

  it('ends a command that outlives its time', async () => {
    await expect(run(['sh', '-c', 'exec sleep 60'], { timeoutMs: 50 })).rejects.toThrow('did not end within 50 ms');
  });
});

describe('megabytes', () => {
  it('has one place below ten', () => {
    expect(megabytes(3_849_000)).toBe('3.8 MB');
    expect(megabytes(190_900_000)).toBe('191 MB');
  });
});
