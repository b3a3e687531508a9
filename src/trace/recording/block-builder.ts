/** Collects records into one block, and keeps account of what is in it. */
import { EventClass, type EventKind } from '../event-kinds.ts';
import {
  FIRST_PAYLOAD_WORD,
  KIND_MASK,
  PAYLOAD_OFFSET,
  SLOT_WORDS,
  SLOT_WORDS_SHIFT,
  TIME_WORD,
} from '../record-layout.ts';
import type { BlockHead } from './block.ts';
import { checksum, MAX_BLOCK_DOMAINS } from './format.ts';

const KIND_CODES = 256;
const NO_CLASS = 0;

/** What the account needs to know of each kind, by code. */
export class KindAccounts {
  /** `EventClass` bit. */
  readonly classes = new Int32Array(KIND_CODES);
  /** Payload words that hold a domain. */
  readonly domainWords: readonly (readonly number[])[];

  constructor(kinds: readonly EventKind[]) {
    const words = Array.from({ length: KIND_CODES }, (): number[] => []);
    for (const kind of kinds) {
      this.classes[kind.code] = EventClass[kind.class] ?? NO_CLASS;
      for (const field of kind.fields) if (field.type === 'domain') words[kind.code]!.push(field.word);
    }
    this.domainWords = words;
  }
}

/** Where a payload word is, from the start of the record. */
export function payloadPlace(word: number): number {
  return word === 0 ? FIRST_PAYLOAD_WORD : word + PAYLOAD_OFFSET;
}

export class BlockBuilder {
  readonly words: Int32Array;
  /** Of a block that is being filled. */
  slots = 0;
  records = 0;
  classes = 0;
  first = Number.POSITIVE_INFINITY;
  last = Number.NEGATIVE_INFINITY;
  /** Of the record that was added last. */
  lastTime = 0;
  private readonly times: Float64Array;
  private readonly domainSet = new Set<number>();
  private lastDomain: number | undefined;

  constructor(
    bytes: number,
    private readonly accounts: KindAccounts,
  ) {
    const buffer = new ArrayBuffer(bytes);
    this.words = new Int32Array(buffer);
    this.times = new Float64Array(buffer);
  }

  get room(): number {
    return (this.words.length >>> SLOT_WORDS_SHIFT) - this.slots;
  }

  /** undefined: too many to tell. */
  get domains(): readonly number[] | undefined {
    return this.domainSet.size > MAX_BLOCK_DOMAINS ? undefined : [...this.domainSet].sort((a, b) => a - b);
  }

  /** Copies one record of so many slots; there must be room for it. */
  add(source: Int32Array, slot: number, count: number): void {
    const from = slot << SLOT_WORDS_SHIFT;
    const to = this.slots << SLOT_WORDS_SHIFT;
    for (let word = 0; word < count << SLOT_WORDS_SHIFT; word++) this.words[to + word] = source[from + word]!;
    this.account(to, count);
    this.slots += count;
    this.records++;
  }

  head(block: number, sources: ReadonlyMap<number, string>): BlockHead {
    const isTimed = this.first <= this.last;
    return {
      block,
      first: isTimed ? this.first : 0,
      last: isTimed ? this.last : 0,
      records: this.records,
      classes: this.classes,
      sources,
      checksum: checksum(this.data()),
    };
  }

  data(): Int32Array {
    return this.words.subarray(0, this.slots * SLOT_WORDS);
  }

  clear(): void {
    this.slots = 0;
    this.records = 0;
    this.classes = 0;
    this.first = Number.POSITIVE_INFINITY;
    this.last = Number.NEGATIVE_INFINITY;
    this.domainSet.clear();
    this.lastDomain = undefined;
  }

  private account(at: number, count: number): void {
    const kind = this.words[at]! & KIND_MASK;
    this.classes |= this.accounts.classes[kind]!;
    const time = this.times[(at + TIME_WORD) >>> 1]!;
    this.lastTime = time;
    if (time < this.first) this.first = time;
    if (time > this.last) this.last = time;
    const domainWords = this.accounts.domainWords[kind]!;
    for (let index = 0; index < domainWords.length; index++) {
      const place = payloadPlace(domainWords[index]!);
      if (place < count * SLOT_WORDS) this.addDomain(this.words[at + place]!);
    }
  }

  private addDomain(domain: number): void {
    if (domain === this.lastDomain) return;
    this.lastDomain = domain;
    // One more than can be told, so that it shows.
    if (this.domainSet.size <= MAX_BLOCK_DOMAINS) this.domainSet.add(domain);
  }
}
