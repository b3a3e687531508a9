/** Faults of any cause, and which mistake is behind each. */
import { FaultCause } from '../event-kinds.ts';
import type { PastAttachment } from './attachment-log.ts';
import type { DetectorName } from './detectors.ts';
import { type RefusedRequest, refusedEvidence } from './fault.ts';
import type { Evidence } from './finding.ts';
import type { Explanation } from './finding-log.ts';
import { attachEvidence, detachEvidence, liveEvidence, transferAddress, triedText } from './history-evidence.ts';
import { classifyNotPresent } from './not-present.ts';
import { PAGE_BYTES, PAGES_PER_HIGH_WORD, pageOf } from './pages.ts';
import { accessVerb, domainText, durationText, permissionText, rangeText, requesterText, wordsText } from './text.ts';
import type { World } from './world.ts';

type Told = Omit<Explanation, 'iova' | 'length' | 'domain'>;
type Rule = (
  world: World,
  request: RefusedRequest,
) => { readonly detector: DetectorName; readonly explain: () => Told };

export function classifyFault(world: World, request: RefusedRequest): void {
  const { fault, transfer, domain } = request;
  const rule = RULES[fault.cause];
  if (rule === undefined) {
    classifyNotPresent(world, request);
    return;
  }
  const { detector, explain } = rule(world, request);
  const occurrence = {
    detector,
    device: world.deviceOf(fault.requesterId),
    key: `${fault.page} ${fault.pasid}`,
    access: { time: fault.time, tell: () => refusedEvidence(world, request) },
  };
  world.log.report(occurrence, () => ({
    ...explain(),
    iova: transferAddress(transfer),
    ...(transfer.length > 0 ? { length: transfer.length } : {}),
    ...(domain >= 0 ? { domain } : {}),
  }));
}

const RULES: Readonly<Partial<Record<number, Rule>>> = {
  [FaultCause.denied]: wrongDirection,
  [FaultCause.malformedEntry]: malformedEntry,
  [FaultCause.tableUnreachable]: tableUnreachable,
  [FaultCause.malformedContext]: malformedContext,
  [FaultCause.notAttached]: notAttached,
  [FaultCause.blocked]: blocked,
  [FaultCause.addressTooWide]: tooWide,
  [FaultCause.interruptRange]: interruptRange,
  [FaultCause.noPasid]: noPasid,
};

function tried(world: World, { fault, transfer }: RefusedRequest): string {
  return triedText(world, fault.requesterId, transfer, fault.pasid);
}

function wrongDirection(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault, domain } = request;
  return {
    detector: 'wrong-direction',
    explain: () => {
      const live = world.mappings.at(domain, fault.page);
      const verb = accessVerb(fault.access);
      // Where the mapping was never seen, it allows at least the other of the two.
      const permissions = live?.permissions ?? ((fault.access & 2) !== 0 ? 1 : 2);
      const changed = (permissions & fault.access) === fault.access;
      const allowed = changed
        ? `not mapped for ${verb === 'write' ? 'writing' : 'reading'} any more`
        : `mapped for ${permissionText(permissions)} only`;
      const mapping =
        live === undefined
          ? 'When it was mapped was not seen.'
          : `The mapping is ${rangeText(live.start, live.pages)} of ${domainText(domain)}.`;
      return {
        summary: `${tried(world, request)}, which is ${allowed}`,
        explanation: `The page is mapped, but the tables do not let a device ${verb} there. ${mapping}`,
        evidence: live === undefined ? [] : [liveEvidence(world, domain, live, fault.time)],
      };
    },
  };
}

/** Where an entry that points to something points to; formats differ above bit 51 and below bit 12 only. */
function targetOf({ fault }: RefusedRequest): number {
  return pageOf(fault.entryHigh & 0xfffff, fault.entryLow);
}

function entryText({ fault }: RefusedRequest): string {
  const { entryHigh, entryLow, entryAddressHigh, entryAddressLow, level } = fault;
  const at = wordsText(entryAddressHigh, entryAddressLow);
  const levels = level > 0 ? `level-${level} ` : '';
  return `the ${levels}entry at ${at} is ${wordsText(entryHigh, entryLow)}`;
}

function isNoMemory(world: World, page: number): boolean {
  return world.memory.known && world.memory.find(page) === undefined;
}

const NO_MEMORY =
  'At that address is no guest memory: it is a hole, or the registers of a device, which an IOMMU does not read tables from.';

function malformedEntry(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault } = request;
  return {
    detector: 'malformed-table',
    explain: () => {
      const table = pageOf(fault.entryAddressHigh, fault.entryAddressLow);
      const target = targetOf(request);
      let why = 'It has reserved bits set, or a value that its level does not have.';
      if (target === table) why = 'It leads to the very table that it is in.';
      else if (isNoMemory(world, target)) why = `It leads to ${rangeText(target, 1)}. ${NO_MEMORY}`;
      return {
        summary: `${tried(world, request)}, but ${entryText(request)}, which is malformed`,
        explanation: `A page-table entry on the way cannot be used. ${why}`,
        evidence: [],
      };
    },
  };
}

function tableUnreachable(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault } = request;
  return {
    detector: 'malformed-table',
    explain: () => {
      // Where the entry itself could not be read, nothing is known of it but where it would be.
      const read = (fault.entryHigh | fault.entryLow) !== 0;
      const page = read ? targetOf(request) : pageOf(fault.entryAddressHigh, fault.entryAddressLow);
      const level = fault.level > 0 ? `level-${fault.level} ` : '';
      const what = read
        ? `${entryText(request)}, which leads to a table at ${rangeText(page, 1)} that cannot be read`
        : `the ${level}table at ${rangeText(page, 1)} cannot be read`;
      return {
        summary: `${tried(world, request)}, but ${what}`,
        explanation:
          `A page table on the way is not in guest memory. ${isNoMemory(world, page) ? NO_MEMORY : ''}`.trim(),
        evidence: [],
      };
    },
  };
}

function malformedContext(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault } = request;
  return {
    detector: 'malformed-table',
    explain: () => {
      const address = (fault.entryAddressHigh | fault.entryAddressLow) !== 0;
      const requester = requesterText(fault.requesterId);
      const where = address ? `: ${entryText(request)}` : '';
      return {
        summary: `${tried(world, request)}, but its root or context entry cannot be used${where}`,
        explanation: `The root or context entry of ${requester} is present, but has reserved bits set, a width or type that the unit does not have, or is not in guest memory.`,
        evidence: [],
      };
    },
  };
}

function attachmentHistory(world: World, { fault }: RefusedRequest): Evidence[] {
  const { requesterId, pasid, time } = fault;
  const current = world.attachments.of(requesterId, pasid);
  if (current !== undefined) return [attachEvidence(world, current, time)];
  const last = world.attachments.lastOf(requesterId, pasid);
  return last === undefined ? [] : [attachEvidence(world, last, time), detachEvidence(world, last, time)];
}

/** One that no device has, and that had no context entry yet when the requester lost its own. */
function isNewStranger(world: World, requesterId: number, last: PastAttachment | undefined): boolean {
  if (world.endpoints.has(requesterId)) return false;
  return last === undefined || (last.others !== undefined && !last.others.includes(requesterId));
}

function notAttached(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault } = request;
  const last = world.attachments.lastOf(fault.requesterId, fault.pasid);
  const strangers = fault.others.filter(other => isNewStranger(world, other.requesterId, last));
  if (strangers.length > 0) {
    const before =
      last === undefined
        ? 'and never had one'
        : `since it was detached ${durationText(fault.time - last.until)} before; the other came after that`;
    return {
      detector: 'wrong-requester-id',
      explain: () => {
        const list = strangers.map(one => requesterText(one.requesterId)).join(', ');
        return {
          summary: `${tried(world, request)} without a context entry; ${list} ${strangers.length === 1 ? 'has' : 'have'} one, but no device`,
          explanation: `${requesterText(fault.requesterId)} has no present root or context entry, ${before}. There is one for ${list}, which is the requester id of no device of this machine: it was probably made for the wrong one.`,
          evidence: [
            ...attachmentHistory(world, request),
            ...strangers.map(one => ({
              time: fault.time,
              kind: 'context.present',
              source: fault.source,
              text: `${requesterText(one.requesterId)} has a present context entry, ${domainText(one.domain)}`,
            })),
          ],
        };
      },
    };
  }
  return {
    detector: 'dma-while-detached',
    explain: () => {
      const why =
        last === undefined
          ? ' but is attached to no domain'
          : `, but was detached from ${domainText(last.domain)} ${durationText(fault.time - last.until)} before`;
      return {
        summary: `${tried(world, request)}${why}`,
        explanation:
          last === undefined
            ? 'The device has no present root or context entry, or is attached to no domain, and was not since the IOMMU started.'
            : 'The device went on after it had been detached from its domain.',
        evidence: attachmentHistory(world, request),
      };
    },
  };
}

function blocked(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { domain } = request;
  return {
    detector: 'dma-while-detached',
    explain: () => ({
      summary: `${tried(world, request)} while ${domainText(domain)} lets nothing through`,
      explanation:
        'The device is attached to a domain that blocks everything: it is not configured yet, its translation is off, or it is there to block.',
      evidence: attachmentHistory(world, request),
      suggestion: 'Configure the domain and enable its translation before the device is started.',
    }),
  };
}

function tooWide(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault } = request;
  return {
    detector: 'address-too-wide',
    explain: () => {
      const width = fault.addressWidth > 0 ? `${fault.addressWidth} bits` : 'fewer bits';
      const needed = bitsOf(fault.page, fault.offset);
      return {
        summary: `${tried(world, request)}, which takes ${needed} bits; ${width} are translated`,
        explanation: `Addresses of this domain have ${width}: the tables do not reach higher, or the unit does not.`,
        evidence: attachmentHistory(world, request),
      };
    },
  };
}

function bitsOf(page: number, offset: number): number {
  if (page >= PAGES_PER_HIGH_WORD) return 12 + Math.floor(Math.log2(page)) + 1;
  const address = page * PAGE_BYTES + offset;
  return address === 0 ? 1 : Math.floor(Math.log2(address)) + 1;
}

function interruptRange(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault, domain } = request;
  return {
    detector: 'reserved-range',
    explain: () => {
      const live = world.mappings.at(domain, fault.page);
      const isItself = fault.page >= 0xfee00 && fault.page < 0xfef00;
      return {
        summary: isItself
          ? `${tried(world, request)}, in the range of interrupt messages`
          : `${tried(world, request)}, which leads to the range of interrupt messages`,
        explanation: isItself
          ? 'Addresses from 0xfee00000 to 0xfeefffff never reach memory: a write of four bytes is an interrupt message, anything else is refused. They cannot be mapped.'
          : 'The page is mapped to an address from 0xfee00000 to 0xfeefffff, where no memory is, but interrupt messages go.',
        evidence: live === undefined ? [] : [liveEvidence(world, domain, live, fault.time)],
      };
    },
  };
}

function noPasid(world: World, request: RefusedRequest): ReturnType<Rule> {
  const { fault } = request;
  return {
    detector: 'pasid-misuse',
    explain: () => {
      const last = world.attachments.lastOf(fault.requesterId, fault.pasid);
      const gone = last === undefined ? '' : `; it was detached ${durationText(fault.time - last.until)} before`;
      return {
        summary: `${tried(world, request)}, which is not attached for this device${gone}`,
        explanation:
          'The request carried a PASID for which the device has no entry, or that is attached to no domain, so there are no tables to translate it by.',
        evidence: attachmentHistory(world, request),
      };
    },
  };
}
