/** Whether the guest can run a program: better said before it boots than by its shell's `not found`. */
import { closeSync, openSync, readSync } from 'node:fs';
import { UsageError } from '../errors.ts';

/** The guest's shell, by every name that it has there. */
const SHELLS = ['/bin/sh', '/bin/ash', '/bin/busybox'];
/** Headers and the first line are within. */
const HEAD_BYTES = 64 * 1024;

const ELF = {
  magic: 0x7f454c46,
  class: 4,
  class64: 2,
  machine: 18,
  machineX64: 62,
  programHeaders: 32,
  headerSize: 54,
  headerCount: 56,
  interpreter: 3,
} as const;

/**
 * How a program is started: by the kernel, or, a script that does not say what it is for, by the shell. Throws a UsageError for one that
 * the guest cannot run. `others` are paths of files that come into the guest too.
 */
export function checkProgram(path: string, others: readonly string[]): 'kernel' | 'shell' {
  const head = readHead(path);
  if (head.length >= 4 && head.readUInt32BE(0) === ELF.magic) {
    checkElf(path, head);
    return 'kernel';
  }
  if (head.toString('latin1', 0, 2) !== '#!') return 'shell';
  const line = head.toString('utf8', 2).split('\n', 1)[0]!;
  if (line.endsWith('\r')) {
    throw new UsageError(`${path} has lines that end as on Windows (CR LF), which the guest's shell does not take`);
  }
  const [interpreter = ''] = line.trim().split(/\s+/);
  if (SHELLS.includes(interpreter) || others.includes(interpreter)) return 'kernel';
  throw new UsageError(
    `${path} is for ${interpreter || 'nothing'} (its first line), and the guest has busybox's shell only: begin it with #!/bin/sh, or bring ` +
      `a static ${interpreter || 'interpreter'} with --file`,
  );
}

function checkElf(path: string, head: Buffer): void {
  if (head.length < 64 || head[ELF.class] !== ELF.class64 || head.readUInt16LE(ELF.machine) !== ELF.machineX64) {
    throw new UsageError(`${path} is a program, but not for x86-64 Linux`);
  }
  const start = Number(head.readBigUInt64LE(ELF.programHeaders));
  const size = head.readUInt16LE(ELF.headerSize);
  for (let index = 0; index < head.readUInt16LE(ELF.headerCount); index++) {
    const at = start + index * size;
    if (at + 4 > head.length) return;
    if (head.readUInt32LE(at) !== ELF.interpreter) continue;
    throw new UsageError(`${path} needs shared libraries, which the guest does not have: link it with -static`);
  }
}

function readHead(path: string): Buffer {
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(HEAD_BYTES);
    return buffer.subarray(0, readSync(file, buffer, 0, HEAD_BYTES, 0));
  } finally {
    closeSync(file);
  }
}
