/** What the PCI function asks of the unit behind it, besides the operations themselves. `DmaIommu` is one. */
import type { FaultInjectable, Translation, Translator } from '../../translator.ts';
import type { ProbeAnswer } from '../unit.ts';

export interface DmaIommuControl {
  /** Grows with each mapping that checks compare with its tables. Default 0. */
  readonly comparisons?: number;
  /** As after power-on: no domains, devices, registrations or cached translations. */
  reset(): void;
  /**
   * What this access would do, without doing it. `pasid` is -1 where the request carries none; the IOVA is two 32-bit words; `access`
   * is `Access` bits, at least one. Called by jobs only: it may read guest memory.
   */
  probe(requesterId: number, pasid: number, high: number, low: number, access: number): ProbeAnswer;
}

export interface SwitchedTranslator extends Translator, Partial<FaultInjectable>, Pick<DmaIommuControl, 'probe'> {
  /** `pasid` is -1 for a request without one. */
  translate(requesterId: number, high: number, low: number, access: number, out: Translation, pasid?: number): boolean;
  /** Whether such requests belong to a domain. */
  isAttached(requesterId: number, pasid: number): boolean;
}
