/** What is done about findings, detector by detector, and how people write it down. */
import { DETECTOR_NAMES, DETECTORS, type DetectorName } from './detectors.ts';

/** `stop`: told, and the caller is asked to stop the machine. */
export type Action = 'off' | 'warn' | 'stop';
export type SanitizePolicy = Readonly<Record<DetectorName, Action>>;

const ACTIONS: readonly string[] = ['off', 'warn', 'stop'] satisfies Action[];

/** A text that is no policy; the message says what to write instead. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError';
}

function everything(action: (name: DetectorName) => Action): Record<DetectorName, Action> {
  return Object.fromEntries(DETECTOR_NAMES.map(name => [name, action(name)])) as Record<DetectorName, Action>;
}

const BASES: ReadonlyMap<string, (name: DetectorName) => Action> = new Map<string, (name: DetectorName) => Action>([
  ['on', name => DETECTORS[name].action],
  ['off', () => 'off'],
  ['all', () => 'warn'],
]);

/** What rests on what the IOMMU finds when it compares its caches, and the tables, with what it knew of them. */
const CHECKED: readonly DetectorName[] = [
  'stale-iotlb',
  'stale-context',
  'stale-paging-structure',
  'missing-map-invalidation',
  'use-after-unmap',
  'dma-before-flush',
  'wrong-direction',
  'out-of-bounds',
  'never-mapped',
  'wrong-requester-id',
  'dma-while-detached',
  'reserved-range',
  'mapping-leak',
  'descriptor-race',
  'dma-to-no-memory',
];

/** Whether the IOMMU has to make these comparisons for the policy. */
export function needsChecks(policy: SanitizePolicy): boolean {
  return CHECKED.some(name => policy[name] !== 'off');
}

/** Whether any detector is on. */
export function looksForAnything(policy: SanitizePolicy): boolean {
  return DETECTOR_NAMES.some(name => policy[name] !== 'off');
}

export function defaultPolicy(): SanitizePolicy {
  return everything(name => DETECTORS[name].action);
}

/**
 * A list, separated by commas, that is read from left to right: `on` (the defaults, from which a list starts unless it says otherwise),
 * `off` (nothing) or `all` (every detector warns), each with `=ACTION` for another action; `NAME` (warns), `NAME=ACTION`, `-NAME` (off).
 * Throws a PolicyError.
 */
export function parsePolicy(text: string): SanitizePolicy {
  let policy = everything(name => DETECTORS[name].action);
  for (const raw of text.split(',')) {
    const item = raw.trim();
    if (item === '') throw new PolicyError(`'${text}' has an empty item: ${SYNTAX}`);
    const [name = '', action, ...rest] = item.split('=');
    if (rest.length > 0 || (action !== undefined && !ACTIONS.includes(action))) {
      throw new PolicyError(`'${item}': write ${name || 'NAME'}=ACTION with an action of ${ACTIONS.join(', ')}`);
    }
    const base = BASES.get(name);
    if (base !== undefined) {
      policy = everything(action === undefined ? base : () => action as Action);
      continue;
    }
    const off = name.startsWith('-');
    const detector = off ? name.slice(1) : name;
    if (!isDetector(detector)) throw new PolicyError(`there is no detector '${detector}': ${SYNTAX}`);
    if (off && action !== undefined) throw new PolicyError(`'${item}': write -${detector} or ${detector}=${action}`);
    policy[detector] = off ? 'off' : ((action as Action | undefined) ?? 'warn');
  }
  return policy;
}

const SYNTAX = `write on, off, all, or a list of NAME, NAME=stop and -NAME with the names ${DETECTOR_NAMES.join(', ')}`;

export function isDetector(name: string): name is DetectorName {
  return Object.hasOwn(DETECTORS, name);
}
