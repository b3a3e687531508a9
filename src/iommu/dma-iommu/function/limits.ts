/** Every limit of the PCI function. The guest reads those on lists and rings in registers. */

/** log2 of a ring's entries. One entry is always free, so the smallest ring holds one. */
export const RING_SIZE_MIN = 1;
export const RING_SIZE_MAX = 16;
/** Bytes. */
export const RING_ALIGNMENT = 4096;

/** Page frames in the list of one command: 1 GiB. More is STATUS_INSUFFICIENT_RESOURCES, as in the lists below. */
export const LIST_PAGES_MAX = 1 << 18;
export const LIST_ADDRESSES_MAX = 1 << 16;
export const LIST_REGIONS_MAX = 1024;
export const LIST_CONFIGURATIONS_MAX = 16;

/** Lists are read from guest memory in pieces of this many bytes, so that little is copied before a reset is noticed. */
export const LIST_PIECE_BYTES = 65536;

/**
 * After so many commands, or elements of their lists and pages of their ranges, other jobs get their turn: a guest cannot keep the
 * device thread to itself. The command that goes over the limit is carried out whole, so a job is bounded by this and one command.
 */
export const COMMANDS_PER_JOB = 64;
export const LIST_ELEMENTS_PER_JOB = 1 << 16;
/** The same after so many comparisons of mappings with their tables. */
export const COMPARISONS_PER_JOB = 4096;

/** Faults that wait to be written to the ring; more are lost, and counted in FAULT_OVERFLOW. */
export const FAULTS_PENDING_MAX = 256;

/** Guest memory ends here: page frames are non-negative int32. */
export const ADDRESS_BITS = 43;
