/** Puts a file into a running guest, through the agent: the serial port is the one way in that every guest of ours has. */
import { createHash, randomBytes } from 'node:crypto';
import { posix } from 'node:path';
import { gzipSync } from 'node:zlib';
import { shellWord } from '../../qemu/command-line.ts';
import { type GuestAgent, MAX_COMMAND_BYTES, MAX_INPUT_CHARACTERS } from './agent.ts';

/** Of one command, e.g. to append a chunk; a guest that is emulated and busy takes its time. */
const STEP_TIMEOUT_MS = 60_000;
const DEFAULT_MODE = 0o644;
const MAX_MODE = 0o7777;
/** Of the base64 text that one command gets: a multiple of 4, so that each chunk is decoded by itself. */
const CHUNK_CHARACTERS = MAX_INPUT_CHARACTERS - (MAX_INPUT_CHARACTERS % 4);
/** What the commands here have besides the paths, at most. */
const COMMAND_ROOM = 100;

/**
 * Writes `bytes` into the file `guestPath`, which is absolute, with folders above it as needed. The file appears whole or not at all:
 * it is written under another name, its SHA-256 is checked in the guest, and it is renamed.
 * Rejects with an Error that says which file, and what the guest said, where it cannot be written or arrived damaged; and as
 * `GuestAgent.run` does.
 * @param mode permission bits. Default: 0o644.
 */
export async function copyIn(
  agent: Pick<GuestAgent, 'run'>,
  bytes: Uint8Array,
  guestPath: string,
  mode: number = DEFAULT_MODE,
): Promise<void> {
  if (!posix.isAbsolute(guestPath) || guestPath.endsWith('/')) {
    throw new Error(`cannot copy to ${guestPath} in the guest: it is no absolute path of a file`);
  }
  if (!Number.isInteger(mode) || mode < 0 || mode > MAX_MODE) {
    throw new Error(`cannot copy to ${guestPath} in the guest: the mode ${mode} is not within 0 and 0o7777`);
  }
  const part = shellWord(`${guestPath}.${randomBytes(4).toString('hex')}`);
  if (3 * Buffer.byteLength(part) + COMMAND_ROOM > MAX_COMMAND_BYTES) {
    throw new Error(`cannot copy to ${guestPath} in the guest: the path is too long`);
  }
  try {
    await send(agent, bytes, guestPath, part);
    await step(agent, `chmod ${mode.toString(8)} ${part} && mv -f ${part} ${shellWord(guestPath)}`, guestPath);
  } catch (error) {
    // What is left of it would only be in the way; the guest may be gone, which the first error says better.
    await agent.run(`rm -f ${part} ${part}.gz`, { timeoutMs: STEP_TIMEOUT_MS }).catch(() => {});
    throw error;
  }
}

async function send(agent: Pick<GuestAgent, 'run'>, bytes: Uint8Array, guestPath: string, part: string): Promise<void> {
  const folder = shellWord(posix.dirname(guestPath));
  await step(agent, `mkdir -p ${folder} && [ ! -d ${shellWord(guestPath)} ] && : >${part}.gz`, guestPath);
  // A serial port is slow, and modules with debug information shrink to a third.
  const text = gzipSync(bytes).toString('base64');
  for (let at = 0; at < text.length; at += CHUNK_CHARACTERS) {
    await step(agent, `base64 -d >>${part}.gz`, guestPath, text.slice(at, at + CHUNK_CHARACTERS));
  }
  const output = await step(agent, `gunzip -c ${part}.gz >${part} && rm ${part}.gz && sha256sum ${part}`, guestPath);
  const expected = createHash('sha256').update(bytes).digest('hex');
  // A name with special characters is printed behind a backslash (coreutils' format).
  const arrived = output.join('').replace(/^\\/, '').split(' ', 1)[0];
  if (arrived !== expected)
    throw new Error(`${guestPath} arrived damaged in the guest: SHA-256 ${arrived}, not ${expected}`);
}

async function step(
  agent: Pick<GuestAgent, 'run'>,
  command: string,
  guestPath: string,
  input?: string,
): Promise<string[]> {
  const { status, output } = await agent.run(command, { timeoutMs: STEP_TIMEOUT_MS, input });
  if (status === 0) return output;
  const told = output.join('; ') || `status ${status}`;
  throw new Error(`cannot copy to ${guestPath} in the guest: ${told}`);
}
