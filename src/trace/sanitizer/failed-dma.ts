/** Transfers that failed without a fault of the IOMMU. */
import { AttachKind, ResetWhat } from '../event-kinds.ts';
import type { DetectorName } from './detectors.ts';
import type { Explanation } from './finding-log.ts';
import { liveEvidence, type Transfer, transferAddress, triedText } from './history-evidence.ts';
import type { LiveInterval } from './live-mappings.ts';
import { addressOf, PAGE_BYTES } from './pages.ts';
import { addressText, durationText, frameText } from './text.ts';
import { resetName, type World } from './world.ts';

/** The names of `status` in `dma.failed`. */
export const TransferStatus = { ok: 0, fault: 1, notBusMaster: 2, noMemory: 3, aborted: 4 } as const;

const FIRST_INTERRUPT_FRAME = 0xfee00;
const END_OF_INTERRUPT_FRAMES = 0xfef00;

export interface FailedTransfer {
  readonly source: string;
  readonly requesterId: number;
  readonly pasid: number;
  readonly status: number;
  readonly transfer: Transfer;
}

export function classifyFailure(world: World, failed: FailedTransfer): void {
  const { status, requesterId, pasid, transfer, source } = failed;
  const { time } = transfer;
  const text = () => triedText(world, requesterId, transfer, pasid);
  const tell = (detector: DetectorName, explain: () => Explanation) => {
    const access = { time, tell: () => ({ time, kind: 'dma.failed', source, text: text() }) };
    const occurrence = { detector, device: world.deviceOf(requesterId), key: `${transfer.page} ${pasid}`, access };
    world.log.report(occurrence, () => ({
      ...explain(),
      iova: transferAddress(transfer),
      ...(transfer.length > 0 ? { length: transfer.length } : {}),
    }));
  };
  if (status === TransferStatus.notBusMaster) {
    tell('bus-master-off', () => ({
      summary: `${text()} while it may not master the bus`,
      explanation:
        'Bus Master Enable in the command register is clear, or the device is not in D0. The request never left the device, and no IOMMU and no memory saw it; what it read is all ones.',
    }));
  } else if (status === TransferStatus.aborted) {
    const last = world.resets.get(source);
    // A client that goes takes its guest with it: nobody's mistake.
    if (last?.what === ResetWhat.disconnected) return;
    tell('dma-after-reset', () => ({
      summary: `${text()} and was reset meanwhile`,
      explanation: `The transfer was under way when ${last === undefined ? 'a reset' : resetName(last.what)} came${last === undefined ? '' : ` (${durationText(transfer.time - last.time)} before it ended)`}; pages before it may have been transferred.`,
    }));
  } else if (status === TransferStatus.noMemory) {
    noMemory(world, failed, tell);
  }
}

function noMemory(
  world: World,
  { requesterId, pasid, transfer }: FailedTransfer,
  tell: (detector: DetectorName, explain: () => Explanation) => void,
): void {
  const domain = world.domainOf(requesterId, pasid, -1);
  const tried = triedText(world, requesterId, transfer, pasid);
  const hit = firstWithoutMemory(world, domain, transfer);
  // Without translation the address is the guest-physical one.
  const attachment = world.attachments.of(requesterId, pasid);
  const untranslated = attachment === undefined || attachment.kind === AttachKind.passThrough;
  const frame = hit?.frame ?? (untranslated ? transfer.page : -1);
  if (frame >= FIRST_INTERRUPT_FRAME && frame < END_OF_INTERRUPT_FRAMES) {
    tell('reserved-range', () => ({
      summary: `${tried}, which ${hit === undefined ? 'lies' : `is mapped to ${frameText(frame)}`} in the range of interrupt messages`,
      explanation: 'No memory is there: writes are interrupt messages, reads go nowhere.',
      evidence: hit === undefined ? [] : [liveEvidence(world, domain, hit.interval, transfer.time)],
      ...(domain >= 0 ? { domain } : {}),
    }));
    return;
  }
  tell('dma-to-no-memory', () => ({
    summary:
      hit === undefined
        ? `${tried}, but no memory is where that leads`
        : `${tried}, but ${addressText(addressOf(hit.page))} leads to ${frameText(frame)}, where no memory is${hit.readOnly ? ' that can be written' : ''}`,
    explanation:
      'The address was translated, or passed through, but none of the memory regions of the machine holds the guest-physical address.',
    evidence: hit === undefined ? [] : [liveEvidence(world, domain, hit.interval, transfer.time)],
    ...(domain >= 0 ? { domain } : {}),
  }));
}

interface Hit {
  readonly page: number;
  readonly frame: number;
  readonly interval: LiveInterval;
  readonly readOnly: boolean;
}

/** The first page of a transfer that is mapped to where no memory is, as far as mappings and memory are known. */
function firstWithoutMemory(world: World, domain: number, transfer: Transfer): Hit | undefined {
  const pages = Math.ceil((transfer.offset + Math.max(1, transfer.length)) / PAGE_BYTES);
  if (!world.memory.known) return undefined;
  for (let i = 0; i < Math.min(pages, PAGES_MAX); i++) {
    const page = transfer.page + i;
    const interval = world.mappings.at(domain, page);
    if (interval === undefined || interval.frame < 0) continue;
    const frame = interval.frame + (page - interval.start);
    const region = world.memory.find(frame);
    const readOnly = region !== undefined && !region.writable && (transfer.access & 2) !== 0;
    if (region === undefined || readOnly) return { page, frame, interval, readOnly };
  }
  return undefined;
}

/** Of one transfer that are looked at. */
const PAGES_MAX = 1024;
