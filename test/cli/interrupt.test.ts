import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const INTERRUPT = fileURLToPath(new URL('../../dist/src/cli/interrupt.js', import.meta.url));

/** Hears signals, and cleans up forever. `worker` runs in a thread of its own, and says when. */
const PROGRAM = `
import { Worker } from 'node:worker_threads';
import { writeSync } from 'node:fs';
import { catchInterrupt } from ${JSON.stringify(INTERRUPT)};
const { signalled } = catchInterrupt();
process.on('exit', () => writeSync(1, 'cleaned\\n'));
signalled.then(signal => writeSync(1, signal + '\\n'));
setInterval(() => {}, 1000);
new Worker(process.argv[1], { eval: true, execArgv: [] });
`;

const IDLE = `require('fs').writeSync(1, 'ready\\n'); setInterval(() => {}, 1000);`;
/** In read(2), as a device thread is whose client gave it a file that does not answer. */
const STUCK = `const fs = require('fs'); fs.writeSync(1, 'ready\\n'); fs.readSync(0, Buffer.alloc(1));`;

describe.each([
  ['an idle thread', IDLE],
  ['a thread that is stuck in a system call', STUCK],
])('a process with %s', (_, worker) => {
  it.each(['SIGINT', 'SIGTERM'] as const)('may clean up after %s, and ends at once at the second', async signal => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, worker], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let said = '';
    child.stdout.setEncoding('utf8').on('data', text => {
      said += text;
    });
    const ended = once(child, 'exit');
    try {
      await expect.poll(() => said).toContain('ready');
      child.kill(signal);
      await expect.poll(() => said).toContain(signal);
      expect(child.exitCode).toBe(null);
      child.kill(signal);
      await expect.poll(() => child.exitCode ?? child.signalCode).not.toBe(null);
      expect(child.signalCode).toBe(signal);
      expect(said).toContain('cleaned');
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
  });
});
