/** Reads newc archives back, from the format's description alone (Linux, buffer-format.rst): for tests. */
export interface CpioMember {
  readonly path: string;
  readonly inode: number;
  readonly mode: number;
  readonly modified: number;
  readonly major: number;
  readonly minor: number;
  readonly data: Buffer;
}

const HEADER_SIZE = 110;

export function readCpio(archive: Buffer): CpioMember[] {
  const members: CpioMember[] = [];
  for (let at = 0; ; ) {
    if (archive.toString('latin1', at, at + 6) !== '070701') throw new Error(`no member at ${at}`);
    const field = (index: number) => {
      const text = archive.toString('latin1', at + 6 + index * 8, at + 14 + index * 8);
      if (!/^[0-9a-fA-F]{8}$/.test(text)) throw new Error(`field ${index} at ${at} is ${text}`);
      return Number.parseInt(text, 16);
    };
    const size = field(6);
    const nameSize = field(11);
    const nameStart = at + HEADER_SIZE;
    if (archive[nameStart + nameSize - 1] !== 0) throw new Error(`the name at ${at} does not end with NUL`);
    const path = archive.toString('utf8', nameStart, nameStart + nameSize - 1);
    const dataStart = align(nameStart + nameSize);
    if (dataStart + size > archive.length) throw new Error(`${path} goes beyond the end`);
    if (path === 'TRAILER!!!') return members;
    const data = archive.subarray(dataStart, dataStart + size);
    members.push({
      path,
      inode: field(0),
      mode: field(1),
      modified: field(5),
      major: field(9),
      minor: field(10),
      data,
    });
    at = align(dataStart + size);
  }
}

function align(offset: number): number {
  return Math.ceil(offset / 4) * 4;
}
