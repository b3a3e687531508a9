/**
 * Archives in cpio's "newc" format, which the kernel unpacks as its initramfs (Linux,
 * Documentation/driver-api/early-userspace/buffer-format.rst). The same entries give the same bytes: times are 0, owner and group
 * are root, inode numbers count up.
 */

interface EntryBase {
  /** Path in the archive, without a leading slash. Folders above it must come before it. */
  readonly path: string;
  /** Permission bits, e.g. `0o755`. */
  readonly mode: number;
}

export type CpioEntry =
  | (EntryBase & { readonly kind: 'directory' })
  | (EntryBase & { readonly kind: 'file'; readonly data: Uint8Array })
  | (EntryBase & { readonly kind: 'symlink'; readonly target: string })
  | (EntryBase & { readonly kind: 'character-device'; readonly major: number; readonly minor: number });

/** File type bits of st_mode (inode(7)). */
const FILE_TYPE = {
  directory: 0o040000,
  file: 0o100000,
  symlink: 0o120000,
  'character-device': 0o020000,
} as const;

const MAGIC = '070701';
const TRAILER = 'TRAILER!!!';
const MAX_PERMISSIONS = 0o7777;
/** Header, name and data each end on a multiple of this. */
const ALIGNMENT = 4;
/** File sizes are 32-bit fields. */
const MAX_FILE_SIZE = 0xffff_ffff;

/** Throws when an entry cannot be stored: a bad path or mode, a path twice, a folder missing above it. */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Buffer[] = [];
  const kinds = new Map<string, CpioEntry['kind']>();
  let inode = 1;
  for (const entry of entries) {
    checkEntry(entry, kinds);
    kinds.set(entry.path, entry.kind);
    appendMember(parts, entry.path, inode++, FILE_TYPE[entry.kind] | entry.mode, entry);
  }
  appendMember(parts, TRAILER, 0, 0, undefined);
  return Buffer.concat(parts);
}

function checkEntry(entry: CpioEntry, kinds: ReadonlyMap<string, CpioEntry['kind']>): void {
  const { path, mode } = entry;
  const names = path.split('/');
  if (path.includes('\0') || names.some(name => name === '' || name === '.' || name === '..') || path === TRAILER) {
    throw new Error(`cpio: ${JSON.stringify(path)} is no path for an archive`);
  }
  if (!Number.isInteger(mode) || mode < 0 || mode > MAX_PERMISSIONS) {
    throw new Error(`cpio: ${path}: the mode ${mode} is not within 0 and 0o7777`);
  }
  if (kinds.has(path)) throw new Error(`cpio: ${path} comes twice`);
  const parent = names.slice(0, -1).join('/');
  if (parent !== '' && kinds.get(parent) !== 'directory') {
    throw new Error(`cpio: ${path}: the folder ${parent} must come before it`);
  }
  if (entry.kind === 'file' && entry.data.length > MAX_FILE_SIZE) throw new Error(`cpio: ${path} is larger than 4 GiB`);
}

function appendMember(parts: Buffer[], path: string, inode: number, mode: number, entry: CpioEntry | undefined): void {
  const name = Buffer.from(`${path}\0`);
  const data = contentOf(entry);
  const device = entry?.kind === 'character-device' ? entry : { major: 0, minor: 0 };
  const links = entry?.kind === 'directory' ? 2 : 1;
  const header = [
    inode,
    mode,
    0, // owner
    0, // group
    links,
    0, // time of modification
    data.length,
    0, // device that holds the file: major
    0, // minor
    device.major,
    device.minor,
    name.length,
    0, // checksum, which this format leaves 0
  ];
  const text = MAGIC + header.map(field => field.toString(16).padStart(8, '0')).join('');
  appendPadded(parts, Buffer.concat([Buffer.from(text), name]));
  appendPadded(parts, data);
}

function contentOf(entry: CpioEntry | undefined): Buffer {
  if (entry?.kind === 'file') return Buffer.from(entry.data.buffer, entry.data.byteOffset, entry.data.length);
  if (entry?.kind === 'symlink') return Buffer.from(entry.target);
  return Buffer.alloc(0);
}

function appendPadded(parts: Buffer[], bytes: Buffer): void {
  parts.push(bytes);
  const rest = bytes.length % ALIGNMENT;
  if (rest !== 0) parts.push(Buffer.alloc(ALIGNMENT - rest));
}
