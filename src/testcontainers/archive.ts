/** One file out of a container, which gives files as tar archives only (POSIX.1-2017, pax, "ustar Interchange Format"). */

const BLOCK_BYTES = 512;
const SIZE_FIELD = { start: 124, end: 136 } as const;
const TYPE_AT = 156;
/** '0', and what older writers have in its place. */
const REGULAR = new Set([0x30, 0]);
/** Headers that only say more about the next one: pax records ('x', 'g') and GNU's long names ('L', 'K'). */
const ABOUT_THE_NEXT = new Set(['x', 'g', 'L', 'K'].map(letter => letter.charCodeAt(0)));
/** Of a number that is not in octal digits but in the bytes behind the first. */
const BINARY_NUMBER = 0x80;
/** A recording may be long; more than this is not kept in memory. */
export const MAX_FILE_BYTES = 1 << 30;

/** The content of the first regular file. Rejects where there is none, and where the archive is cut short or too large. */
export async function fileInArchive(archive: AsyncIterable<Uint8Array | string>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of archive) {
    bytes += chunk.length;
    if (bytes > MAX_FILE_BYTES) throw new Error(`the file is larger than ${MAX_FILE_BYTES} bytes`);
    chunks.push(Buffer.from(chunk as Uint8Array));
  }
  return firstFile(Buffer.concat(chunks));
}

function firstFile(archive: Buffer): Buffer {
  let at = 0;
  while (at + BLOCK_BYTES <= archive.length) {
    const header = archive.subarray(at, at + BLOCK_BYTES);
    const type = header[TYPE_AT]!;
    const size = sizeIn(header);
    const start = at + BLOCK_BYTES;
    if (start + size > archive.length) throw new Error('the archive is cut short');
    if (REGULAR.has(type) && header.some(byte => byte !== 0)) return archive.subarray(start, start + size);
    if (!ABOUT_THE_NEXT.has(type)) break;
    at = start + Math.ceil(size / BLOCK_BYTES) * BLOCK_BYTES;
  }
  throw new Error('there is no file in the archive');
}

function sizeIn(header: Buffer): number {
  const field = header.subarray(SIZE_FIELD.start, SIZE_FIELD.end);
  const size =
    (field[0]! & BINARY_NUMBER) === 0
      ? Number.parseInt(field.toString('latin1').replaceAll('\0', ' ').trim() || '0', 8)
      : Number(field.readBigUInt64BE(field.length - 8));
  if (!Number.isSafeInteger(size) || size < 0) throw new Error('the archive has a malformed header');
  return size;
}
