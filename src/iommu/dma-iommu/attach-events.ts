/** Says who is attached to which domain, and who no longer is. */
import { MappingSource } from '../../trace/event-kinds.ts';
import type { Core } from './core.ts';
import type { Attached, Domain } from './domain.ts';

export function tellAttached({ events }: Core, domain: Domain, { ids, pasid }: Attached): void {
  events.attached(ids, domain.handle, domain.attachKind, pasid);
}

/** Once it is out of `domain.attached`. What is left in the tables of a domain that nobody uses any more is looked at first. */
export function tellDetached({ events, known }: Core, domain: Domain, { ids, pasid }: Attached): void {
  const { view } = domain.space;
  if (domain.attached.size === 0 && view !== undefined) known.compareAll(domain.handle, view, MappingSource.detach);
  events.detached(ids, domain.handle, pasid);
}
