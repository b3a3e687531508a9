/** What a rule of the conformance suite is, and the few ways in which one can end. */
import type { Context } from './context.ts';

/**
 * Where a rule comes from. `specification`: the text of the vfio-user specification says so. `linux-vfio`: the specification takes
 * the semantics over from linux/vfio.h. `robustness`: the text leaves the answer open, but whatever it is, the server must give one
 * and go on ("Security Considerations"). `extension`: not in the text; libvfio-user has it, and a server need not.
 */
export type Basis = 'specification' | 'linux-vfio' | 'robustness' | 'extension';

export interface Rule {
  /** `area.what`, unique. */
  readonly id: string;
  /** The section's heading in QEMU's docs/interop/vfio-user.rst. */
  readonly section: string;
  readonly basis: Basis;
  /** The rule in one sentence. */
  readonly says: string;
  /** Returns where the server keeps the rule; throws a Violation where not, and Skipped where it cannot be seen. */
  readonly check: (context: Context) => void;
}

/** The rules of one section, as they are written down. */
export function inSection(section: string, rules: readonly Omit<Rule, 'section'>[]): readonly Rule[] {
  return rules.map(rule => ({ section, ...rule }));
}

/** The server breaks the rule. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

/** This server, or its device, has nothing that the rule could be seen at. */
export class Skipped extends Error {
  override readonly name = 'Skipped';
}

export function skip(reason: string): never {
  throw new Skipped(reason);
}

/** The server need not have it, and says that it has not. */
export function notOffered(what: string): never {
  skip(`not offered: ${what}`);
}

export function fail(what: string): never {
  throw new Violation(what);
}

export function isTrue(condition: boolean, what: string): asserts condition {
  if (!condition) fail(what);
}

/** Numbers, texts and booleans. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  if (!Object.is(actual, expected)) fail(`${what}: expected ${String(expected)}, got ${String(actual)}`);
}

export function equalBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  equal(actual.length, expected.length, `${what}, bytes`);
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  if (at >= 0) fail(`${what}: expected ${expected[at]} at byte ${at}, got ${actual[at]}`);
}
