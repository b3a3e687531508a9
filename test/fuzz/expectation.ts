/** What must come of one message, as the reference says. */

export interface Expectation {
  readonly id: number;
  readonly command: number;
  /** No reply may come. */
  readonly silent: boolean;
  /** Zero: success. Missing: any errno and success. */
  readonly errnos?: readonly number[];
  /** What is wrong with the payload of a success. */
  readonly check?: (payload: Uint8Array) => string | undefined;
  /** It may be answered after those behind it. */
  readonly later?: boolean;
  /** The connection ends here, for one of these reasons (any where empty). */
  readonly closes?: readonly string[];
  /** It may also go on. */
  readonly mayGoOn?: boolean;
  /** From the reply on these addresses are out of bounds. */
  readonly gone?: readonly MappedRange[];
}

export interface MappedRange {
  readonly address: bigint;
  readonly size: bigint;
  readonly readable: boolean;
  readonly writable: boolean;
}

/** What a function says of itself to a good client. */
export interface FunctionFacts {
  readonly regions: readonly { readonly flags: number; readonly size: number }[];
  readonly interrupts: readonly { readonly flags: number; readonly count: number }[];
  /** It can be saved and restored. */
  readonly migrates?: boolean;
  /** It remembers which pages it has written. */
  readonly logs?: boolean;
}

export const Errno = {
  ENOENT: 2,
  EIO: 5,
  E2BIG: 7,
  ENOMEM: 12,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  ENOTSUP: 95,
} as const;
