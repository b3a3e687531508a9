/** Kernel modules that are none. */

const NAMES = '\0.shstrtab\0.modinfo\0';

/** An ELF file with nothing but a section .modinfo with these texts. */
export function moduleBytes(texts: Readonly<Record<string, string>>): Buffer {
  const modinfo = Buffer.from(
    Object.entries(texts)
      .map(([key, value]) => `${key}=${value}\0`)
      .join(''),
  );
  const names = Buffer.from(NAMES);
  const header = Buffer.alloc(64);
  header.write('\x7fELF\x02\x01', 'latin1');
  header.writeBigUInt64LE(BigInt(64 + modinfo.length + names.length), 40);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(3, 60);
  header.writeUInt16LE(2, 62);
  const section = (name: string, offset: number, size: number) => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(NAMES.indexOf(name), 0);
    bytes.writeBigUInt64LE(BigInt(offset), 24);
    bytes.writeBigUInt64LE(BigInt(size), 32);
    return bytes;
  };
  return Buffer.concat([
    header,
    modinfo,
    names,
    Buffer.alloc(64),
    section('.modinfo', 64, modinfo.length),
    section('.shstrtab', 64 + modinfo.length, names.length),
  ]);
}
