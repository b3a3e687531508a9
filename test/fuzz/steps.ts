/** What a fuzzed conversation is made of, as data: it can be written to a file, cut shorter, and done again. */
import type { OfferedUse } from './offered.ts';

/** A descriptor that goes with a message. */
export type DescriptorKind =
  | { readonly is: 'file'; readonly file: number }
  | { readonly is: 'read-only'; readonly file: number }
  | { readonly is: 'eventfd'; readonly number: number }
  | { readonly is: OtherDescriptor };

export const OTHER_DESCRIPTORS = [
  'pipe',
  'pipe-end',
  'directory',
  'null',
  'zero',
  'socket',
  'socket-end',
  'full-eventfd',
  'memory-of-process',
] as const;
export type OtherDescriptor = (typeof OTHER_DESCRIPTORS)[number];

export const EVENTFDS = 4;

/** Whether a file of guest memory can become shorter: never, not any more once somebody seals it, or at any time. */
export type Sealing = 'sealed' | 'sealable' | 'unsealable';

export interface FileDescription {
  readonly bytes: number;
  readonly sealing: Sealing;
  /** What it holds at first. */
  readonly content: 'tables' | 'commands' | 'zeros' | 'vtd' | 'dma-iommu';
  readonly seed: number;
}

/** How a connection answers what the server asks of its memory. */
export const ANSWER_WAYS = [
  'right',
  'error',
  'late',
  'never',
  'twice',
  'wrong-address',
  'wrong-length',
  'wrong-command',
] as const;
export type AnswerWay = (typeof ANSWER_WAYS)[number];

export type Step =
  | { readonly do: 'connect'; readonly c: number; readonly to: string }
  | {
      readonly do: 'send';
      readonly c: number;
      readonly bytes: Uint8Array;
      readonly descriptors?: readonly DescriptorKind[];
      /** Where it is cut into sends of their own; the descriptors go with the first. */
      readonly cuts?: readonly number[];
      /** May share a send with what comes next. */
      readonly joined?: boolean;
    }
  | { readonly do: 'hang-up'; readonly c: number }
  /** From here on it reads, or does not. */
  | { readonly do: 'read'; readonly c: number; readonly reading: boolean }
  | { readonly do: 'answer'; readonly c: number; readonly way: AnswerWay }
  /** Until everything is answered, on one connection or on all. */
  | { readonly do: 'settle'; readonly c?: number }
  | { readonly do: 'shrink'; readonly file: number; readonly bytes: number }
  | { readonly do: 'write'; readonly file: number; readonly at: number; readonly bytes: Uint8Array }
  /** The file holds what it held at first. */
  | { readonly do: 'restore'; readonly file: number }
  | { readonly do: 'signal'; readonly number: number }
  /** On the second stream, what does not belong there. */
  | {
      readonly do: 'twin';
      readonly c: number;
      readonly bytes: Uint8Array;
      readonly descriptors?: readonly DescriptorKind[];
    }
  | { readonly do: 'twin-read'; readonly c: number; readonly reading: boolean }
  /** Closes the second stream. */
  | { readonly do: 'twin-end'; readonly c: number }
  /** Does something with what the server has given. */
  | {
      readonly do: 'use';
      readonly c: number;
      readonly how: OfferedUse;
      readonly number: number;
      readonly at: number;
      readonly bytes: Uint8Array;
    };

export interface Episode {
  readonly seed: number;
  readonly number: number;
  readonly files: readonly FileDescription[];
  readonly steps: readonly Step[];
}

const BYTES = 'base64:';

export function formatEpisode(episode: Episode): string {
  return JSON.stringify(
    episode,
    (_, value) => (value instanceof Uint8Array ? `${BYTES}${Buffer.from(value).toString('base64')}` : value),
    1,
  );
}

/** Throws an Error where the text is no episode. */
export function parseEpisode(text: string): Episode {
  const value = JSON.parse(text, (_, one) =>
    typeof one === 'string' && one.startsWith(BYTES)
      ? new Uint8Array(Buffer.from(one.slice(BYTES.length), 'base64'))
      : one,
  ) as Partial<Episode> | null;
  if (!Array.isArray(value?.steps) || !Array.isArray(value.files)) throw new Error('no steps are in it');
  return value as Episode;
}
