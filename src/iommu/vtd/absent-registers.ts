/**
 * Registers that the specification (11.4) defines for features that this unit does not report. They read as zero, and nobody is told: tools
 * that show all registers read these as well. Where one shares its offset with a register that this unit has, it is that register.
 */

export interface AbsentRegister {
  readonly name: string;
  readonly offset: number;
  /** Width in bytes. */
  readonly bytes: 4 | 8;
  /** The capability that is zero here. */
  readonly needs: string;
}

function group(
  needs: string,
  registers: readonly (readonly [name: string, offset: number, bytes: 4 | 8])[],
): AbsentRegister[] {
  return registers.map(([name, offset, bytes]) => ({ name, offset, bytes, needs }));
}

/** Pairs of base and mask. */
const VARIABLE_MTRRS = 10;

export const ABSENT_REGISTERS: readonly AbsentRegister[] = [
  ...group('ECAP.PRS', [
    ['PQH', 0xc0, 8],
    ['PQT', 0xc8, 8],
    ['PQA', 0xd0, 8],
    ['PRS', 0xdc, 4],
    ['PECTL', 0xe0, 4],
    ['PEDATA', 0xe4, 4],
    ['PEADDR', 0xe8, 4],
    ['PEUADDR', 0xec, 4],
  ]),
  ...group('ECAP.MTS', [
    // IVA and IOTLB have the place of these two (ECAP.IRO).
    ['MTRRCAP', 0x100, 8],
    ['MTRRDEF', 0x108, 8],
    ['MTRR_FIX64K_00000', 0x120, 8],
    ['MTRR_FIX16K_80000', 0x128, 8],
    ['MTRR_FIX16K_A0000', 0x130, 8],
    ...['C0000', 'C8000', 'D0000', 'D8000', 'E0000', 'E8000', 'F0000', 'F8000'].map(
      (base, i) => [`MTRR_FIX4K_${base}`, 0x138 + i * 8, 8] as const,
    ),
    ...Array.from({ length: VARIABLE_MTRRS * 2 }, (_, i) => {
      const name = `MTRR_${i % 2 === 0 ? 'PHYSBASE' : 'PHYSMASK'}${i >>> 1}`;
      return [name, 0x180 + i * 8, 8] as const;
    }),
  ]),
  ...group('ECAP.PMS', [
    ['PERFCAP', 0x300, 8],
    ['PERFCFGOFF', 0x310, 4],
    ['PERFOVFOFF', 0x318, 4],
    ['PERFCNTROFF', 0x31c, 4],
    ['PERFINTRSTS', 0x324, 4],
    ['PERFINTRCTL', 0x328, 4],
    ['PERFEVNTCAP', 0x380, 8],
  ]),
  ...group('CAP.ECMDS', [
    ['ECMD', 0x400, 8],
    ['ECEO', 0x408, 8],
    ['ECRSP', 0x410, 8],
    ['ECCAP0', 0x430, 8],
    ['ECCAP1', 0x438, 8],
    ['ECCAP2', 0x440, 8],
    ['ECCAP3', 0x448, 8],
  ]),
  ...group('ECAP.VCS', [
    ['VCMD', 0xe00, 8],
    ['VCRSP', 0xe10, 8],
    ['VCCAP', 0xe30, 8],
  ]),
];

const WORDS: ReadonlySet<number> = new Set(
  ABSENT_REGISTERS.flatMap(({ offset, bytes }) => (bytes === 8 ? [offset, offset + 4] : [offset])),
);

/** Whether the 32-bit word at the byte offset is of such a register. */
export function isAbsent(offset: number): boolean {
  return WORDS.has(offset);
}
