/** Limits that a user sets: checked one by one and together. */
import {
  type GivenLimits,
  type LimitDefinition,
  type LimitName,
  limitNames,
  limitRules,
  limitTable,
} from './limit-table.ts';

/** What cannot be set; the message says what can. */
export class LimitError extends Error {
  override readonly name = 'LimitError';
}

const QUOTED_CHARACTERS = 64;

/** Of all limits. */
export type LimitValues = Readonly<Record<LimitName, number>>;

export const tableDefaults = Object.fromEntries(
  limitNames.map(name => [name, limitTable[name].default]),
) as LimitValues;

/** `1 to 65535 regions`. */
export function limitRange(name: LimitName): string {
  const { least, most, unit }: LimitDefinition = limitTable[name];
  return `${least} to ${most} ${unit}`;
}

/** Throws a `LimitError` that names what comes nearest. */
export function checkLimit(name: string, value: unknown): asserts name is LimitName {
  if (!isLimit(name)) {
    const near = nearest(name);
    throw new LimitError(
      `no limit is called ${quoted(name)}: did you mean ${near} (${limitRange(near)})? There are ${limitNames.join(', ')}`,
    );
  }
  const { least, most } = limitTable[name];
  if (typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most) return;
  throw new LimitError(`the limit ${name} must be a whole number, ${limitRange(name)}, not ${quoted(value)}`);
}

/**
 * All limits where these are given. A limit that is not given gives way to one that is, so that they go together. Throws a `LimitError`
 * where one cannot be set, or where two that are given do not go together.
 */
export function settleLimits(given: GivenLimits, base: LimitValues = tableDefaults): LimitValues {
  const settling: Settling = { values: { ...base }, raised: new Set(), lowered: new Set() };
  for (const [name, value] of Object.entries(given)) {
    checkLimit(name, value);
    settling.values[name] = value;
    settling.raised.add(name);
    settling.lowered.add(name);
  }
  // What one rule has moved another one may have to follow.
  while (limitRules.some(rule => settle(rule, settling))) {}
  return settling.values;
}

/** What was moved goes on the same way only, and what was given not at all: so it ends. */
interface Settling {
  readonly values: Record<LimitName, number>;
  /** These cannot be lowered. */
  readonly raised: Set<LimitName>;
  /** These cannot be raised. */
  readonly lowered: Set<LimitName>;
}

/**
 * The limits of a machine that somebody else asks for, who may lower the server's own and not raise them: what has to be given for
 * it. Throws a `LimitError`.
 */
export function lowerLimits(asked: GivenLimits, own: GivenLimits): GivenLimits {
  const most = settleLimits(own);
  for (const [name, value] of Object.entries(asked)) {
    checkLimit(name, value);
    if (value > most[name]) {
      throw new LimitError(`the limit ${name} is at most ${most[name]} ${limitTable[name].unit} here, not ${value}`);
    }
  }
  const values = settleLimits(asked, most);
  const changed = limitNames.filter(name => values[name] !== tableDefaults[name]);
  return Object.fromEntries(changed.map(name => [name, values[name]]));
}

/** True: something had to be moved. */
function settle(
  { small, factor, spare, large, why }: (typeof limitRules)[number],
  { values, raised, lowered }: Settling,
): boolean {
  const needed = factor * values[small] + spare;
  if (needed <= values[large]) return false;
  const room = Math.floor((values[large] - spare) / factor);
  if (!raised.has(small) && room >= limitTable[small].least) {
    values[small] = room;
    lowered.add(small);
  } else if (!lowered.has(large) && needed <= limitTable[large].most) {
    values[large] = needed;
    raised.add(large);
  } else {
    throw new LimitError(
      `the limits ${small} = ${values[small]} and ${large} = ${values[large]} do not go together, ${why}: ` +
        `${large} must be at least ${needed}, or ${small} at most ${Math.max(0, room)}`,
    );
  }
  return true;
}

/** What somebody else wrote, which may be anything. */
function quoted(value: unknown): string {
  if (typeof value === 'object' && value !== null) return 'an object';
  const text = String(value);
  return `'${text.length > QUOTED_CHARACTERS ? `${text.slice(0, QUOTED_CHARACTERS)}...` : text}'`;
}

function isLimit(name: string): name is LimitName {
  return Object.hasOwn(limitTable, name);
}

function nearest(name: string): LimitName {
  // Nobody has typed more, and the comparison takes as long as the name.
  const text = name.slice(0, QUOTED_CHARACTERS).toLowerCase();
  const distances = limitNames.map(one => distance(text, one.toLowerCase()));
  return limitNames[distances.indexOf(Math.min(...distances))]!;
}

/** How many letters must be put in, taken out or replaced (Levenshtein). */
function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) {
      const replaced = row[j - 1]! + (one[i - 1] === other[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[other.length]!;
}
