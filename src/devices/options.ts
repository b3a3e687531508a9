/** Reads the options of an endpoint, with errors that say what to do. Values come typed (JSON) or as text (command line). */
import type { EndpointOptions } from './endpoint.ts';

/** Throws an Error where an option is not among the known ones. */
export function refuseUnknownOptions(kind: string, options: EndpointOptions, known: readonly string[]): void {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new Error(`${kind} has no option '${name}': it has ${known.join(', ')}`);
  }
}

export interface IntegerRange {
  readonly minimum: number;
  readonly maximum: number;
  readonly fallback: number;
}

/** A whole number, decimal or 0x-prefixed. Throws an Error on anything else and outside the range. */
export function integerOption(kind: string, options: EndpointOptions, name: string, range: IntegerRange): number {
  const given = options[name];
  if (given === undefined) return range.fallback;
  const value = typeof given === 'string' && given.trim() !== '' ? Number(given) : given;
  if (typeof value === 'number' && Number.isInteger(value) && value >= range.minimum && value <= range.maximum) {
    return value;
  }
  throw new Error(`${kind}: ${name} is '${given}': give a whole number from ${range.minimum} to ${range.maximum}`);
}

/** Throws an Error on anything that is not true or false. */
export function booleanOption(kind: string, options: EndpointOptions, name: string, fallback: boolean): boolean {
  const given = options[name];
  if (given === undefined) return fallback;
  if (given === true || given === 'true') return true;
  if (given === false || given === 'false') return false;
  throw new Error(`${kind}: ${name} is '${given}': give true or false`);
}
