/**
 * Who is attached to what, by the id that DMA carries: the requester id of a device, or, of one that ACPI enumerated, one of its
 * input mapping ids. At most one attachment has an id.
 */
import type { Domain } from './domain.ts';
import { STREAMS } from './limits.ts';
import { NtStatus } from './ntstatus.ts';
import { type DeviceFaultConfiguration, DomainType, type PhysicalDeviceObject } from './types.ts';

/** A device, or a range of its ids, and the domain it is attached to. */
export class Attachment {
  /** Where its faults go, while reporting is enabled. */
  faultConfig: DeviceFaultConfiguration | undefined;
  /** False once detached. */
  live = true;
  /** Requests without one. */
  readonly pasid = -1;

  constructor(
    readonly domain: Domain,
    readonly pdo: PhysicalDeviceObject,
    /** The input mapping id that the group goes by; 0 unless enumerated by ACPI. */
    readonly base: number,
    readonly ids: readonly number[],
    readonly acpi: boolean,
    /** The DMA device that was attached; undefined: AttachDevice did it. */
    readonly device: object | undefined,
  ) {}
}

/** What requests with a PASID go through. */
export interface PasidTarget {
  readonly domain: Domain | undefined;
}

export class Streams {
  /** By id. Requests are looked up here. */
  readonly attachments: (Attachment | undefined)[] = new Array<undefined>(STREAMS).fill(undefined);
  /** By id, then by PASID. */
  readonly pasids: (Map<number, PasidTarget> | undefined)[] = new Array<undefined>(STREAMS).fill(undefined);
  /** Devices that DMA Guard keeps from PassThrough domains. */
  readonly guarded = new Set<PhysicalDeviceObject>();
  readonly #byDevice = new Map<PhysicalDeviceObject, Set<Attachment>>();

  of(pdo: PhysicalDeviceObject): readonly Attachment[] {
    return [...(this.#byDevice.get(pdo) ?? [])];
  }

  /** Every attachment, by device. */
  all(): readonly Attachment[] {
    return [...this.#byDevice.values()].flatMap(set => [...set]);
  }

  denied(domain: Domain, pdo: PhysicalDeviceObject): boolean {
    return domain.type === DomainType.PassThrough && this.guarded.has(pdo);
  }

  /** All ids are attached, or none. `alreadyAttached` is the answer if one of them is. */
  attach(attachment: Attachment, alreadyAttached: NtStatus): NtStatus {
    const { ids, pdo, domain } = attachment;
    for (const id of ids) if (this.attachments[id] !== undefined) return alreadyAttached;
    if (this.denied(domain, pdo)) return NtStatus.ACCESS_DENIED;
    for (const id of ids) this.attachments[id] = attachment;
    domain.attached.add(attachment);
    const known = this.#byDevice.get(pdo);
    if (known === undefined) this.#byDevice.set(pdo, new Set([attachment]));
    else known.add(attachment);
    return NtStatus.SUCCESS;
  }

  detach(attachment: Attachment): void {
    attachment.live = false;
    for (const id of attachment.ids) this.attachments[id] = undefined;
    attachment.domain.attached.delete(attachment);
    const known = this.#byDevice.get(attachment.pdo);
    known?.delete(attachment);
    if (known?.size === 0) this.#byDevice.delete(attachment.pdo);
  }

  attachPasid(ids: readonly number[], pasid: number, target: PasidTarget): void {
    for (const id of ids) {
      const known = this.pasids[id];
      if (known === undefined) this.pasids[id] = new Map([[pasid, target]]);
      else known.set(pasid, target);
    }
  }

  detachPasid(ids: readonly number[], pasid: number): void {
    for (const id of ids) {
      const known = this.pasids[id];
      known?.delete(pasid);
      if (known?.size === 0) this.pasids[id] = undefined;
    }
  }

  /** Detaches everything; DMA Guard's policy stays. */
  reset(): void {
    this.attachments.fill(undefined);
    this.pasids.fill(undefined);
    this.#byDevice.clear();
  }
}
