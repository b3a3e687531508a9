/** A domain: one set of translations, and what is attached to it. */
import { AttachKind } from '../../trace/event-kinds.ts';
import { type AddressSpace, blockedSpace, identitySpace } from './address-space.ts';
import type { BuddyAllocator } from './buddy-allocator.ts';
import type { ManagedTables } from './managed-tables.ts';
import { type DomainConfiguration, DomainConfigurationArch, type DomainHandle, DomainType } from './types.ts';

/** A device, or a PASID of one, and the ids that its requests carry. */
export interface Attached {
  readonly ids: readonly number[];
  /** -1: requests without one. */
  readonly pasid: number;
}

export class Domain {
  handle = 0 as DomainHandle;
  readonly type: DomainType;
  /** Where we own the tables. */
  tables: ManagedTables | undefined;
  allocator: BuddyAllocator | undefined;
  /** Attachments and PASID devices. */
  readonly attached = new Set<Attached>();
  /** Tokens that are not freed yet. */
  readonly tokens = new Set<object>();
  configuration: DomainConfiguration | undefined;
  /** What DMA goes through now. */
  space: AddressSpace;

  constructor(type: DomainType) {
    this.type = type;
    this.space = type === DomainType.PassThrough ? identitySpace : blockedSpace;
  }

  /** Its name in the caches; the next number is its as well, for a second root. Its ASID is half of it. */
  get tag(): number {
    return this.handle * 2;
  }

  /** Whether a stage 1, and not a second one, translates here. */
  get isStage1(): boolean {
    return this.type === DomainType.Unmanaged || this.type === DomainType.TranslateS1;
  }

  /** `AttachKind` of whoever is attached now. */
  get attachKind(): number {
    if (this.space === identitySpace) return AttachKind.passThrough;
    return this.space === blockedSpace ? AttachKind.blocked : AttachKind.translated;
  }

  get arch(): number {
    return this.configuration?.type ?? DomainConfigurationArch.Invalid;
  }
}
