/** Every kind of endpoint. Adding a device: its folder, and a line here. */
import { eduKind } from './edu/kind.ts';
import type { EndpointKind } from './endpoint.ts';

export const kinds: readonly EndpointKind[] = [eduKind];

/** Throws an Error that lists the known kinds. */
export function findKind(name: string): EndpointKind {
  const found = kinds.find(one => one.kind === name);
  if (found) return found;
  throw new Error(`there is no endpoint kind '${name}': the kinds are ${kinds.map(one => one.kind).join(', ')}`);
}
