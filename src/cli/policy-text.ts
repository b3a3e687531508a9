/** A policy as `parsePolicy` reads it: for a machine that somebody else makes. */
import { DETECTOR_NAMES } from '../trace/sanitizer/detectors.ts';
import { defaultPolicy, looksForAnything, type SanitizePolicy } from '../trace/sanitizer/policy.ts';

export function policyText(policy: SanitizePolicy): string {
  if (!looksForAnything(policy)) return 'off';
  const defaults = defaultPolicy();
  const changed = DETECTOR_NAMES.filter(name => policy[name] !== defaults[name]);
  return ['on', ...changed.map(name => `${name}=${policy[name]}`)].join(',');
}
