/** What can be made to go wrong on purpose, so that a driver's error paths can be tested. */
import {
  ArgumentError,
  type Check,
  checked,
  optional,
  record,
  tag,
  text,
  uint16,
  uint64,
  variant,
  whole,
} from '../argument-checks.ts';

/** How long an invalidation can be delayed by a timer: one minute. */
export const DELAY_MILLISECONDS_MAX = 60_000;
/** Of a flipped bit: the last one of the longest transfer that is thought of, 16 MiB. */
export const FLIP_BIT_MAX = 16 * 1024 * 1024 * 8 - 1;
const NAME_CHARACTERS = 64;
const ADDRESS_LIMIT = 1n << 64n;

/** As the device sees it: `read` is a read of guest memory. */
export type Direction = 'read' | 'write';

/** The IOMMU answers DMA of the device with a fault, as if nothing were mapped there. */
export interface RefuseRule {
  readonly kind: 'refuse';
  /** The endpoint's id. */
  readonly device: string;
  /** Only DMA to one of the pages that `bytes` bytes (default 1) from here on touch; missing: to any. */
  readonly iova?: bigint;
  /** From `iova` on; default 1. */
  readonly bytes?: bigint;
  /** Missing: both. */
  readonly access?: Direction;
  /** Transfers, 1 by default. */
  readonly times?: number;
}

/** One bit of a transfer's data is wrong. */
export interface FlipRule {
  readonly kind: 'flip';
  /** The endpoint's id. */
  readonly device: string;
  /** As the device sees it: `read` is what it reads from guest memory. Missing: both. */
  readonly direction?: Direction;
  /** Within the transfer, from the lowest bit of its first byte on; shorter transfers go by. */
  readonly bit: number;
  /** Transfers, 1 by default. */
  readonly times?: number;
}

/** An interrupt is not raised. */
export interface DropInterruptRule {
  readonly kind: 'drop-interrupt';
  /** An endpoint's id, or `iommu`. */
  readonly device: string;
  /** As the device numbers them; INTx is 0. Missing: any. */
  readonly vector?: number;
  /** Interrupts, 1 by default. */
  readonly times?: number;
}

/** The device does nothing more of what registers ask it for, until it is released; then it does all of it, in order. */
export interface HoldRule {
  readonly kind: 'hold';
  /** The endpoint's id. */
  readonly device: string;
}

/**
 * What the IOMMU does on its own (emptying its queue, carrying out commands, sending its interrupts) waits, while DMA goes on. What
 * comes behind a piece of work that waits waits too, so that all of it is done in order.
 */
export interface DelayInvalidationRule {
  readonly kind: 'delay-invalidation';
  /** Missing: until it is released. */
  readonly milliseconds?: number;
  /** Pieces of work, 1 by default: a doorbell is one. */
  readonly times?: number;
}

/** A wait descriptor is taken from the queue, but neither writes its status nor interrupts. */
export interface DropInvalidationCompletionRule {
  readonly kind: 'drop-invalidation-completion';
  /** Wait descriptors, 1 by default. */
  readonly times?: number;
}

/** Something to go wrong on purpose. */
export type InjectionRule =
  | RefuseRule
  | FlipRule
  | DropInterruptRule
  | HoldRule
  | DelayInvalidationRule
  | DropInvalidationCompletionRule;

/** A rule that was taken, and what came of it. */
export interface InjectionState {
  /** As it was answered when the rule was taken. */
  readonly id: number;
  readonly rule: InjectionRule;
  /** How often it did what it is for. */
  readonly applied: number;
  /** It will not apply again: used up or released. */
  readonly over: boolean;
  /** Pieces of work that wait because of it. */
  readonly held: number;
}

const device = text(NAME_CHARACTERS);
const times = optional(whole(1, 0xffffffff));
const direction: Check<Direction> = (value, where) => directions({ direction: value }, where).direction;
const directions = variant<{ direction: Direction }>('direction', {
  read: () => ({ direction: 'read' }),
  write: () => ({ direction: 'write' }),
});

const refuseMembers = record<RefuseRule>({
  kind: tag('refuse'),
  device,
  iova: optional(uint64),
  bytes: optional(uint64),
  access: optional(direction),
  times,
});

const refuse: Check<RefuseRule> = (value, where) => {
  const rule = refuseMembers(value, where);
  const { iova, bytes } = rule;
  if (bytes === undefined) return rule;
  if (iova === undefined) throw new ArgumentError(`'${where}.bytes' says nothing without '${where}.iova'`);
  if (bytes === 0n || iova + bytes > ADDRESS_LIMIT) {
    throw new ArgumentError(`'${where}.bytes' must be at least 1, and not lead beyond 64 bits`);
  }
  return rule;
};

const rule = variant<InjectionRule>('kind', {
  refuse,
  flip: record<FlipRule>({
    kind: tag('flip'),
    device,
    direction: optional(direction),
    bit: whole(0, FLIP_BIT_MAX),
    times,
  }),
  'drop-interrupt': record<DropInterruptRule>({
    kind: tag('drop-interrupt'),
    device,
    vector: optional(uint16),
    times,
  }),
  hold: record<HoldRule>({ kind: tag('hold'), device }),
  'delay-invalidation': record<DelayInvalidationRule>({
    kind: tag('delay-invalidation'),
    milliseconds: optional(whole(1, DELAY_MILLISECONDS_MAX)),
    times,
  }),
  'drop-invalidation-completion': record<DropInvalidationCompletionRule>({
    kind: tag('drop-invalidation-completion'),
    times,
  }),
});

/** The rule that untrusted data describes, or what is wrong with it. */
export function checkInjectionRule(value: unknown): InjectionRule | ArgumentError {
  return checked(rule, value, 'rule');
}
