/** The detectors, as data: what each is called, what it means, and what to do about it. */
import type { Finding } from './finding.ts';
import type { Action } from './policy.ts';

export const DETECTOR_NAMES = [
  /** An IOTLB entry differs from a fresh walk, and no invalidation came within the time of grace. */
  'stale-iotlb',
  /** A cached context entry differs from the one in memory, and was not invalidated within the time of grace. */
  'stale-context',
  /** A walk that started from the paging-structure cache ended elsewhere than one from the root. */
  'stale-paging-structure',
  /** Caching mode: the IOMMU remembers that nothing was there, and software mapped something without saying so. */
  'missing-map-invalidation',
  /** To a page that was mapped earlier. */
  'use-after-unmap',
  /** A stale entry was used after the unmapping, or another change, and before the invalidation that came for it. */
  'dma-before-flush',
  /** A write where only reading is mapped, or the other way round. */
  'wrong-direction',
  /** Begins in a mapping and leaves it, or lies right beside one. */
  'out-of-bounds',
  /** To a page at which no mapping was seen; often a physical address. */
  'never-mapped',
  /** The requester has no context entry, but another one has that no endpoint of the machine uses. */
  'wrong-requester-id',
  /** DMA or an interrupt message while COMMAND.BME is off. */
  'bus-master-off',
  /** The requester was detached, or is attached nowhere. */
  'dma-while-detached',
  /** The requester was reset while its DMA was under way, or the IOMMU was. */
  'dma-after-reset',
  /** DMA to the interrupt range, or a page mapped to it. */
  'reserved-range',
  /** More bits than the unit or the tables translate, or than the device drives. */
  'address-too-wide',
  /** A mapping was made over another one. */
  'overlapping-map',
  /** An unmap of what is not mapped. */
  'double-unmap',
  /** An unmap of something else than what was mapped: other length, other domain. */
  'mismatched-unmap',
  /** Operations of a dma-iommu in an order that it refuses: deleted while in use, attached twice. */
  'operation-order',
  /** Mappings left behind at a detach, at a reset or at the end. */
  'mapping-leak',
  /** Reserved bits, a table outside of memory, a table in device memory, a table that contains itself. */
  'malformed-table',
  'invalidation-queue-misuse',
  /** A descriptor was changed while it was being read. */
  'descriptor-race',
  /** A vector that is not programmed, or no way for the interrupt to go. */
  'interrupt-misuse',
  /** The guest polls a register that does not change. */
  'register-spin',
  /** A register that nothing implements, a reserved bit, a wrong width. */
  'unknown-register',
  /** Translated, but nothing (writable) is at the guest-physical address. */
  'dma-to-no-memory',
  /** A PASID that the requester does not have. */
  'pasid-misuse',
] as const;
export type DetectorName = (typeof DETECTOR_NAMES)[number];

export interface Detector {
  readonly title: string;
  /** Why it is a mistake, for people who see the name for the first time. */
  readonly about: string;
  /** What to look for in the driver; findings that know better say so themselves. */
  readonly suggestion: string;
  /** What is done unless the policy says otherwise. */
  readonly action: Action;
  /** Of findings under the action `warn`, unless the occasion is a lesser one. */
  readonly severity: Exclude<Finding['severity'], 'stop'>;
}

const warning = { action: 'warn', severity: 'warning' } as const;

export const DETECTORS: Readonly<Record<DetectorName, Detector>> = {
  'stale-iotlb': {
    ...warning,
    title: 'Stale IOTLB entry',
    about:
      'A device was served from an IOTLB entry that the page tables do not say any more, and no invalidation came. On hardware the device goes on reading and writing memory that is not its own any more, without a fault. Where it is to stop the machine, the first such access does, without waiting whether the invalidation is only late, unless `dma-before-flush` is off.',
    suggestion:
      'Invalidate the IOTLB for the pages after every change of a present entry, and wait for it to complete before the memory is used for something else.',
  },
  'stale-context': {
    ...warning,
    title: 'Stale context entry',
    about:
      'A device was translated by a cached context entry that differs from the one in memory, and no invalidation came: it still uses the domain, the tables or the mode of before.',
    suggestion:
      'After a change of a context entry invalidate the context cache for the device, with the domain id that the old entry had, and then the IOTLB.',
  },
  'stale-paging-structure': {
    ...warning,
    title: 'Stale paging-structure cache entry',
    about:
      'A walk that began in the middle, from a cached pointer to a page table, ended elsewhere than a walk from the root: an upper table was changed, but only leaf entries were invalidated, or nothing.',
    suggestion:
      'Where anything but a leaf entry changes, invalidate without the hint that only leaves changed, and keep the old table until that is complete.',
  },
  'missing-map-invalidation': {
    ...warning,
    title: 'Mapping made without an invalidation in caching mode',
    about:
      'The IOMMU works in caching mode and remembers that nothing was mapped; software mapped the page and told nobody, so the device was refused although the tables allow it.',
    suggestion: 'With CAP.CM set, invalidate also when an entry becomes present.',
  },
  'use-after-unmap': {
    ...warning,
    title: 'DMA to an unmapped page',
    about:
      'A device used a page that was mapped for it once and is not any more: it was not stopped, or did not finish, before its buffer was unmapped.',
    suggestion:
      'Stop the device, or wait until it is done with the buffer, before the buffer is unmapped; look for descriptors that still point to it.',
  },
  'dma-before-flush': {
    ...warning,
    title: 'DMA between a change and its invalidation',
    about:
      'A device used a page after its mapping, or its context entry, had gone from the tables or was changed there, and before the invalidation for it came. Within this window it reaches memory that may have been given to somebody else.',
    suggestion:
      'Stop the device before the buffer is unmapped. Do not free memory before the invalidation is complete; deferred (lazy) invalidation widens the window.',
  },
  'wrong-direction': {
    ...warning,
    title: 'DMA against the direction of the mapping',
    about: 'A device wrote where it may only read, or read where it may only write.',
    suggestion:
      "Compare the direction given when the buffer was mapped (to the device: read, from the device: write) with what the device's command does.",
  },
  'out-of-bounds': {
    ...warning,
    title: 'DMA beyond a mapping',
    about:
      'A transfer began in a mapping and left it, or went to a page right beside one: length, offset or the number of descriptors is wrong. Within the page it would not have been noticed.',
    suggestion: 'Compare the length given to the device, and offset plus length, with what was mapped.',
  },
  'never-mapped': {
    ...warning,
    title: 'DMA to an address where no mapping was seen',
    about:
      'A device used an address at which the IOMMU has never seen a mapping: a physical or virtual address in place of the one that the mapping gave, a half-written or byte-swapped descriptor, or a device that was not set up.',
    suggestion:
      'Give the device the address that the mapping returned, never one that the CPU uses; check that both halves of a 64-bit address are written.',
  },
  'wrong-requester-id': {
    ...warning,
    title: 'Context entry for another requester id',
    about:
      'A device has no context entry, but there is one for a requester id that no device of the machine has: it was probably made for the wrong one.',
    suggestion:
      'Compute the entry from bus << 8 | device << 3 | function as the device has them on the bus now; bridges change the bus number.',
  },
  'bus-master-off': {
    ...warning,
    title: 'DMA without bus mastering',
    about:
      'A device was told to do DMA, or to send an interrupt message, while the Bus Master Enable bit of its command register is clear, or while it is not in D0. The request never leaves the device.',
    suggestion: 'Set Bus Master Enable (pci_set_master) before the device is started; clear it only after it stopped.',
  },
  'dma-while-detached': {
    ...warning,
    title: 'DMA of a device that is attached to no domain',
    about: 'The requester is attached to no domain, or to one that lets nothing through, so its request was blocked.',
    suggestion: 'Stop the device before it is detached, and start it only after its domain is attached and configured.',
  },
  'dma-after-reset': {
    ...warning,
    title: 'Reset while DMA was under way',
    about:
      'The function was reset in the middle of a transfer: part of the data may have arrived, and no completion will come.',
    suggestion:
      'Stop the device and wait until its transactions are complete (Transactions Pending in the device status) before it is reset.',
  },
  'reserved-range': {
    ...warning,
    title: 'DMA to the range of interrupt messages',
    about:
      'A device used an address between 0xfee00000 and 0xfeefffff, or a page is mapped to one. Such writes are interrupt messages and never reach memory; reads are refused.',
    suggestion: 'Keep 0xfee00000 to 0xfeefffff out of the addresses given to devices, and map nothing to it.',
  },
  'address-too-wide': {
    ...warning,
    title: 'Address with too many bits',
    about: 'The address has more bits than the unit or the domain translates, or than the device drives.',
    suggestion:
      "Set the device's DMA mask to what it can address, and choose addresses below the width of the domain's tables.",
  },
  'overlapping-map': {
    ...warning,
    title: 'Mapping made over another one',
    about:
      'A page was mapped that is mapped already: two owners believe that the address is theirs. Found at a dma-iommu only, where operations map and unmap.',
    suggestion:
      'Unmap first, or find out who else uses the address: one allocator should give out all addresses of a domain.',
  },
  'double-unmap': {
    ...warning,
    title: 'Unmap of what is not mapped',
    about:
      'Pages were unmapped that are not mapped: unmapped twice, or never mapped. Had somebody mapped them meanwhile, it would have hit him. Found at a dma-iommu only, where operations map and unmap.',
    suggestion: 'Look for two paths that both release the buffer, often an error path and the ordinary one.',
  },
  'mismatched-unmap': {
    ...warning,
    title: 'Unmap that does not match the mapping',
    about:
      'An unmap named another length, start or domain than the mapping that is there. Found at a dma-iommu only, where operations map and unmap.',
    suggestion: 'Keep address, length and domain of each mapping beside the buffer, and unmap with exactly these.',
  },
  'operation-order': {
    ...warning,
    title: 'Operations in the wrong order',
    about:
      'An operation was refused because of the state of what it names: something was deleted that is still in use, attached twice, or detached while it was not attached. Found at a dma-iommu only, which checks the order of operations.',
    suggestion:
      'Take down in the reverse order: unmap, detach devices, free reserved ranges, delete the domain, then the device; look at the status of each operation.',
  },
  'mapping-leak': {
    ...warning,
    title: 'Mappings left behind',
    about:
      'Mappings were still there when the last device left their domain, when the domain was deleted, at a reset or at the end. Whatever they lead to stays reachable, and their memory stays pinned.',
    suggestion: 'Unmap everything when a driver lets go of its device, on error paths too.',
  },
  'malformed-table': {
    ...warning,
    title: 'Malformed page table or context entry',
    about:
      'An entry has reserved bits set or an impossible value, or leads to a table that is not in guest memory, or back to itself. The request was refused.',
    suggestion:
      'Compare the entry with its layout in the specification; look for stray writes to the table and for tables freed too early.',
  },
  'invalidation-queue-misuse': {
    ...warning,
    title: 'Misuse of a queue of the IOMMU',
    about:
      'A descriptor, a pointer or a command that the IOMMU cannot carry out: it stopped, or ignored what it was told, so that stale entries may remain.',
    suggestion:
      'Compare descriptors and pointers with the specification; do not move or disable a queue that is not empty.',
  },
  'descriptor-race': {
    ...warning,
    title: 'Descriptor changed while it was read',
    about:
      'A descriptor in guest memory changed between two readings right after another: somebody wrote it after it was handed over.',
    suggestion:
      'Write descriptors whole before the tail moves past them, and do not touch them again until they are complete.',
  },
  'interrupt-misuse': {
    ...warning,
    title: 'Interrupt that cannot arrive',
    about:
      'An interrupt was raised for a vector that is not there, or there is no way for it to go: the driver waits for it forever.',
    suggestion: "Enable MSI-X, MSI or INTx before the device's interrupts, and use only vectors that were allocated.",
  },
  'register-spin': {
    ...warning,
    title: 'Endless polling of a register',
    about:
      'The guest reads the same register again and again, and it does not change: it waits for what will not happen.',
    suggestion:
      'Give the loop a limit, and look why the device does not get there: was it started, is it in reset, did its DMA fail?',
  },
  'unknown-register': {
    ...warning,
    title: 'Access to a register that is not there, or a wrong access',
    about:
      'The guest used an offset at which no register is, set reserved bits, or used a width or an order that the register does not have. Hardware ignores it or does something undefined.',
    suggestion: "Compare offset, width and bits with the device's documentation.",
  },
  'dma-to-no-memory': {
    ...warning,
    title: 'DMA to where no memory is',
    about: 'The address was translated, but at the guest-physical address is no memory, or none that can be written.',
    suggestion: 'Map only memory: look at the physical address that the mapping was made with.',
  },
  'pasid-misuse': {
    ...warning,
    title: 'PASID that the requester does not have',
    about: 'A request carried a PASID that is not attached for this device, or that the IOMMU knows nothing of.',
    suggestion: 'Attach the PASID before the device uses it, and let the device drain before it is detached.',
  },
};

/** One row for each detector, for documentation. */
export function detectorTable(): readonly (Detector & { readonly name: DetectorName })[] {
  return DETECTOR_NAMES.map(name => ({ name, ...DETECTORS[name] }));
}
