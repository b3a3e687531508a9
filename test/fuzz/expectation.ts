/** What must come of one message, as the reference says. */
import type { IoEventFd, RegionArea } from '../../src/vfio-user/device-model.ts';

export interface Expectation {
  readonly id: number;
  readonly command: number;
  /** No reply may come. */
  readonly silent: boolean;
  /** Zero: success. Missing: any errno and success. */
  readonly errnos?: readonly number[];
  /** What is wrong with the payload of a success. */
  readonly check?: (payload: Uint8Array) => string | undefined;
  /** Descriptors that come with a success; missing: none. */
  readonly descriptors?: number;
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

export interface RegionFacts {
  readonly flags: number;
  readonly size: number;
  /** What of it a client may map, and where the region starts in the file; all of it where there are no areas. */
  readonly memory?: { readonly offset: number; readonly areas?: readonly RegionArea[] } | undefined;
  readonly ioEventFds?: readonly IoEventFd[] | undefined;
}

/** What a function says of itself to a good client. */
export interface FunctionFacts {
  readonly regions: readonly RegionFacts[];
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
