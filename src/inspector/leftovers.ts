/** What a server that was killed left of its leased machines. */
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';

const MACHINE_DIRECTORY = /^m[1-9][0-9]*$/;
/** What lies in a machine's directory. */
const OURS = /\.(sock|json|aml)$/;

/** Removes it. Rejects with an Error that names the directory where another server still uses it, or where something else is in it. */
export async function removeLeftovers(directory: string): Promise<void> {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    if (MACHINE_DIRECTORY.test(name) && lstatSync(path).isDirectory()) await removeMachine(path);
  }
}

async function removeMachine(directory: string): Promise<void> {
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const found = lstatSync(path);
    if (!OURS.test(name) || found.isDirectory()) {
      throw new Error(`${path} is in the way: machines are made in ${directory}`);
    }
    if (found.isSocket() && (await isAnswered(path))) throw new Error(`another server answers at ${path}`);
  }
  rmSync(directory, { recursive: true, force: true });
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(path);
    const tell = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => tell(true));
    socket.once('error', ({ code }: NodeJS.ErrnoException) => tell(code !== 'ECONNREFUSED' && code !== 'ENOENT'));
  });
}
