/** Ends a child also when SIGKILL ends this process, for a QEMU that cannot see to that itself. */
import { spawn } from 'node:child_process';

/** Reads to the end of its input, which comes when nobody has the other end of the pipe any more. What a terminal sends is not for it. */
const SCRIPT = 'trap "" INT TERM HUP QUIT; while read -r line; do :; done; kill -KILL "$1"';

/** From now until the returned function is called, which must be when the child has ended. */
export function killWithParent(pid: number): () => void {
  const guard = spawn('/bin/sh', ['-c', SCRIPT, 'sh', String(pid)], { stdio: ['pipe', 'ignore', 'ignore'] });
  let ended = false;
  guard.on('exit', () => {
    ended = true;
  });
  // Where no shell can be started the child is as it was: ended in every way but one.
  guard.on('error', () => {
    ended = true;
  });
  guard.stdin.on('error', () => {});
  guard.unref();
  return () => {
    if (!ended) guard.kill('SIGKILL');
  };
}
