/** What a kernel module says of itself: its section `.modinfo`, NUL-terminated `name=value` texts (Linux, include/linux/moduleparam.h). */

const MAGIC = 0x7f454c46;
const HEADER_BYTES = 64;
const SECTION_BYTES = 64;
/** Offsets in the ELF header, and in a section's (ELF-64 object file format, sections 3 and 4). */
const FILE = { sections: 40, sectionSize: 58, sectionCount: 60, names: 62 } as const;
const SECTION = { name: 0, offset: 24, size: 32 } as const;
/** The release is the first word of a module's vermagic (Linux, include/linux/vermagic.h). */
const RELEASE = /^[\x21-\x7e]{1,64}/;

export interface ModuleInfo {
  /** As the kernel and `rmmod` know it. */
  readonly name: string | undefined;
  /** Names of the modules that must be loaded before. */
  readonly depends: readonly string[];
  /** The kernel that it was built for, as `uname -r` tells it. */
  readonly release: string | undefined;
}

/** undefined: these bytes are no kernel module for x86-64. */
export function readModuleInfo(bytes: Buffer): ModuleInfo | undefined {
  const texts = modinfo(bytes)?.toString('utf8').split('\0');
  if (texts === undefined) return undefined;
  const value = (key: string) => texts.find(text => text.startsWith(`${key}=`))?.slice(key.length + 1);
  return {
    name: value('name'),
    depends: (value('depends') ?? '').split(',').filter(name => name !== ''),
    release: RELEASE.exec(value('vermagic') ?? '')?.[0],
  };
}

function modinfo(bytes: Buffer): Buffer | undefined {
  if (bytes.length < HEADER_BYTES || bytes.readUInt32BE(0) !== MAGIC) return undefined;
  if (bytes.readUInt16LE(FILE.sectionSize) !== SECTION_BYTES) return undefined;
  const table = Number(bytes.readBigUInt64LE(FILE.sections));
  const count = bytes.readUInt16LE(FILE.sectionCount);
  if (table + count * SECTION_BYTES > bytes.length) return undefined;
  const content = (index: number): Buffer | undefined => {
    const header = table + index * SECTION_BYTES;
    const start = Number(bytes.readBigUInt64LE(header + SECTION.offset));
    const end = start + Number(bytes.readBigUInt64LE(header + SECTION.size));
    return end <= bytes.length ? bytes.subarray(start, end) : undefined;
  };
  const namesIndex = bytes.readUInt16LE(FILE.names);
  const names = namesIndex < count ? content(namesIndex) : undefined;
  if (names === undefined) return undefined;
  for (let index = 0; index < count; index++) {
    const at = bytes.readUInt32LE(table + index * SECTION_BYTES + SECTION.name);
    if (names.toString('latin1', at, names.indexOf(0, at)) === '.modinfo') return content(index);
  }
  return undefined;
}
