import { readdirSync, readFileSync } from 'node:fs';

/** Descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Lines of the process's memory map that hold `text`. */
export function mappingsOf(text: string): number {
  return readFileSync('/proc/self/maps', 'latin1')
    .split('\n')
    .filter(line => line.includes(text)).length;
}

/** Address space in use, in bytes. */
export function addressSpace(): number {
  const match = /^VmSize:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'));
  if (match === null) throw new Error('no VmSize');
  return Number(match[1]) * 1024;
}
