/** Which notes of the rooms are mistakes of a driver, and which detector's; all other notes are no findings. */
import type { DetectorName } from './detectors.ts';
import { accessText, hexValue, type NoteDetail, wordText } from './note-words.ts';

export interface NoteRule {
  readonly detector: DetectorName;
  /** Ends a sentence that begins with the source: `edu0 (01:00.0)` + ` ...`. */
  readonly summary: (detail: NoteDetail) => string;
  readonly explanation: string;
  /** Field that tells one finding of a kind from another, e.g. the register's offset. */
  readonly key?: string;
  /** Field with the address that is meant. */
  readonly address?: string;
  /** Field with the requester id of whose mistake it is; default: the source's. */
  readonly requester?: string;
  /** Of notes that several things can cause. */
  readonly applies?: (detail: NoteDetail) => boolean;
}

const offset = (detail: NoteDetail) => hexValue(detail.offset);

export const NOTE_RULES: Readonly<Record<string, NoteRule>> = {
  'register.unknown': {
    detector: 'unknown-register',
    summary: detail => `: ${accessText(detail)} at offset ${offset(detail)}, where no register is`,
    explanation: 'Nothing implements this offset: a write changes nothing, a read says nothing.',
    key: 'offset',
  },
  'register.reserved': {
    detector: 'unknown-register',
    summary: detail =>
      `: reserved bits ${hexValue(detail.bits)} were set in ${wordText(detail.register)} (offset ${offset(detail)})`,
    explanation:
      'Bits that are reserved today may mean something in the next device; software has to write them as zero, or as read.',
    key: 'offset',
  },
  'register.access': {
    detector: 'unknown-register',
    summary: detail => `: ${accessText(detail)} of ${wordText(detail.width)} bytes at offset ${offset(detail)}`,
    explanation: 'Registers of this unit take aligned accesses of 4 and 8 bytes only.',
    key: 'offset',
  },
  'edu.accessSize': {
    detector: 'unknown-register',
    summary: detail => `: ${accessText(detail)} of ${wordText(detail.width)} bytes at offset ${offset(detail)}`,
    explanation: 'The register does not take accesses of this width: reads are all ones, writes are dropped.',
    key: 'offset',
  },
  'msix.accessWidth': {
    detector: 'unknown-register',
    summary: detail =>
      `: ${accessText(detail)} of ${wordText(detail.width)} bytes in the MSI-X table, offset ${offset(detail)}`,
    explanation: 'The MSI-X table takes whole words of 4 or 8 bytes only; anything else is undefined.',
    key: 'offset',
  },
  'msix.pendingWrite': {
    detector: 'unknown-register',
    summary: detail => `: a write to the pending bits of MSI-X, offset ${offset(detail)}`,
    explanation: 'Software must not write the pending bits; what happens is undefined.',
    key: 'offset',
  },
  'vtd.commandsTogether': {
    detector: 'unknown-register',
    summary: detail => `: several commands in one write of the global command register (${hexValue(detail.value)})`,
    explanation: 'Commands have to be given one at a time, each after the status register showed the one before.',
  },
  'vtd.noProtectedMemory': {
    detector: 'unknown-register',
    summary: () => ': protected memory regions were enabled, which this unit does not have',
    explanation: 'The capability register says that there are none, so nothing is protected.',
  },

  'vtd.queueError': {
    detector: 'invalidation-queue-misuse',
    summary: detail =>
      `: the invalidation queue stopped at ${hexValue(detail.head)}: ${wordText(detail.why ?? detail.error)}`,
    explanation:
      'The unit takes nothing more from the queue until software clears the error; what was to be invalidated is not.',
    key: 'error',
  },
  'vtd.queueCutShort': {
    detector: 'invalidation-queue-misuse',
    summary: () => ': the invalidation queue was disabled while it was not empty',
    explanation: 'What was still in it was not carried out: caches keep what should have gone.',
  },
  'vtd.queueMoved': {
    detector: 'invalidation-queue-misuse',
    summary: () => ': the address of the invalidation queue was changed while it was not empty',
    explanation: 'What was in the old queue is lost, and whatever is in the new place is taken for descriptors.',
  },
  'vtd.invalidationMissed': {
    detector: 'invalidation-queue-misuse',
    summary: detail =>
      `: an invalidation of a context entry for domain ${wordText(detail.domain)} left ${wordText(detail.kept)} in the cache, which belong to other domains`,
    explanation:
      'A device-selective invalidation drops an entry only if it names the domain id that the entry had when it was cached: the old one, not the new one.',
    key: 'requesterId',
    requester: 'requesterId',
  },
  'vtd.invalidationRefused': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: an invalidation by ${wordText(detail.register)} was ignored: ${wordText(detail.why)}`,
    explanation: 'The actual granularity that the register shows is zero: nothing was invalidated.',
    key: 'register',
  },
  'vtd.statusWriteLost': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: the status of a wait descriptor could not be written to ${hexValue(detail.address)}`,
    explanation: 'The status address of the descriptor is not in guest memory: whoever polls it waits forever.',
    key: 'address',
  },
  'dmaIommu.ringError': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: the ${wordText(detail.ring)} ring stopped: ${wordText(detail.error)}`,
    explanation: 'The unit leaves the ring alone until software clears the error.',
    key: 'ring',
  },
  'dmaIommu.ringInUse': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: a ring was to be moved while the rings are enabled (offset ${offset(detail)})`,
    explanation: 'The write was ignored: addresses and sizes change only while the rings are disabled.',
    key: 'offset',
  },
  'dmaIommu.ringNotEnabled': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: an index of a ring was written while the rings are disabled (offset ${offset(detail)})`,
    explanation: 'The write was ignored: nothing was handed over.',
    key: 'offset',
  },
  'dmaIommu.unknownOpcode': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: a command with the unknown opcode ${hexValue(detail.opcode)}`,
    explanation: 'The command was refused.',
    key: 'opcode',
  },
  'dmaIommu.reserved': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: a command ${wordText(detail.operation)} with reserved bits set`,
    explanation: 'The command was refused.',
    key: 'operation',
  },
  'dmaIommu.badList': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: a command's list at ${hexValue(detail.address)} cannot be read`,
    explanation: 'The list is not in guest memory, or not aligned; the command was refused.',
    key: 'address',
  },
  'dmaIommu.listTooLong': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: a command's list has ${wordText(detail.count)} elements, more than ${wordText(detail.limit)}`,
    explanation: 'The command was refused: it has to be given in pieces.',
  },
  'dmaIommu.completionLost': {
    detector: 'invalidation-queue-misuse',
    summary: detail => `: the rings were disabled while command ${hexValue(detail.cookie)} was not answered`,
    explanation: 'The command may have been carried out; its answer is lost.',
  },

  'vtd.noRootTable': {
    detector: 'malformed-table',
    summary: () => ': translation was enabled without a root table',
    explanation: 'No root table pointer was ever set, so the unit takes address 0 for the root table.',
  },
  'vtd.reservedDomain': {
    detector: 'malformed-table',
    summary: () => ': a context entry has domain id 0, which is reserved in caching mode',
    explanation: 'In caching mode the unit tags what is not present with domain id 0; software has to leave it alone.',
    key: 'requesterId',
    requester: 'requesterId',
  },
  'vtd.unaddressable': {
    detector: 'address-too-wide',
    summary: detail => ` used ${hexValue(detail.address)}, which no guest memory can have`,
    explanation: 'Translation is off, so the address goes to memory as it is, and has more bits than there are.',
    key: 'address',
    address: 'address',
    requester: 'requesterId',
  },
  'edu.mask': {
    detector: 'address-too-wide',
    summary: detail =>
      ` was given ${hexValue(detail.address)} for DMA, but drives only ${hexValue(detail.clamped)} of it`,
    explanation: "The upper bits are lost on the device's way out, so its DMA goes somewhere else.",
    key: 'address',
    address: 'address',
  },

  'interrupt.vector': {
    detector: 'interrupt-misuse',
    summary: detail =>
      detail.allocated === undefined
        ? `: interrupt vector ${wordText(detail.vector)} was raised, but there are only ${wordText(detail.vectors)}`
        : `: ${wordText(detail.allocated)} interrupt vectors were allocated, but there are only ${wordText(detail.vectors)}`,
    explanation: 'Nothing is sent for a vector that is not there.',
    key: 'vector',
  },
  'interrupt.lost': {
    detector: 'interrupt-misuse',
    summary: detail => `: an interrupt was lost: ${wordText(detail.why)}`,
    explanation: 'There is no way for the interrupt to go, and it is not kept.',
    // Without a reason it is the client's descriptor that failed, not the driver.
    applies: detail => detail.why !== undefined,
  },
  'interrupt.notBusMaster': {
    detector: 'bus-master-off',
    summary: detail => ` raised interrupt vector ${wordText(detail.vector)} while it may not master the bus`,
    explanation: 'An interrupt message is a write of the device: it waits until Bus Master Enable is set.',
    key: 'vector',
  },
  'vtd.interruptLost': {
    detector: 'interrupt-misuse',
    summary: detail =>
      `: the message of an event (${wordText(detail.event)}) could not be sent to ${hexValue(detail.address)}`,
    explanation:
      'The message address is not one of interrupts, or nothing takes it: the driver never hears of the event.',
    key: 'event',
  },
  'dmaIommu.badVector': {
    detector: 'interrupt-misuse',
    summary: detail =>
      `: the interrupt of ${wordText(detail.source)} is set to vector ${wordText(detail.vector)}, which is not there`,
    explanation: 'Nothing is sent for a vector that is not there.',
    key: 'source',
  },

  'dma.noPasidSupport': {
    detector: 'pasid-misuse',
    summary: detail =>
      ` tried to ${wordText(detail.access)} at ${hexValue(detail.address)} with PASID ${wordText(detail.pasid)}, but the IOMMU knows no PASIDs`,
    explanation: 'The request is answered as unsupported, and memory is left alone.',
    key: 'pasid',
    address: 'address',
  },
};
