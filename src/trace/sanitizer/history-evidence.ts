/** Pieces of evidence, in words: mappings, invalidations, attachments and accesses. */
import {
  AttachKind,
  InvalidationOrigin,
  InvalidationScope,
  InvalidationTarget,
  MappingSource,
} from '../event-kinds.ts';
import type { Attachment, PastAttachment } from './attachment-log.ts';
import type { Evidence } from './finding.ts';
import type { Invalidation } from './invalidation-log.ts';
import type { LiveInterval } from './live-mappings.ts';
import { addressOf } from './pages.ts';
import { type PastMapping, REPLACED } from './past-mappings.ts';
import {
  accessPast,
  accessVerb,
  addressText,
  bytesText,
  domainText,
  durationText,
  frameText,
  permissionText,
  rangeText,
  requesterText,
} from './text.ts';
import type { World } from './world.ts';

/** Bytes that a device wanted. */
export interface Transfer {
  readonly page: number;
  readonly offset: number;
  /** 0: not known. */
  readonly length: number;
  /** 1 read, 2 write. */
  readonly access: number;
  /** Nanoseconds. */
  readonly time: number;
}

/** `, 5 ms before`; nothing of what happens now. */
function ago(time: number, now: number): string {
  return now > time ? `, ${durationText(now - time)} before` : '';
}

function mapText(interval: LiveInterval): string {
  return `${rangeText(interval.start, interval.pages)} -> ${frameText(interval.frame)}, for ${permissionText(interval.permissions)}`;
}

function comingText(how: number): string {
  if (how === MappingSource.operation) return 'mapped by an operation';
  return how === MappingSource.invalidation
    ? 'found in the page tables at an invalidation'
    : 'first seen by a page walk';
}

export function goingText(how: number): string {
  switch (how) {
    case MappingSource.operation:
      return 'unmapped by an operation';
    case MappingSource.invalidation:
      return 'gone from the page tables at an invalidation';
    case MappingSource.detach:
      return 'gone, or left behind, when the last device was detached from the domain';
    case MappingSource.reset:
      return 'gone with a reset of the IOMMU';
    case REPLACED:
      return 'replaced by another mapping';
    default:
      return 'gone from the page tables at a page walk';
  }
}

export function liveEvidence(world: World, domain: number, interval: LiveInterval, now: number): Evidence {
  const text = `mapping ${mapText(interval)}, in ${domainText(domain)}: ${comingText(interval.how)}${ago(interval.since, now)}`;
  return { time: interval.since, kind: 'mapping.added', source: world.iommu, text };
}

/**
 * Whether a mapping that is gone was one of the domain that the requester uses, or used. Numbers of domains whose tables software writes
 * by itself are given again when nobody uses them any more.
 */
export function concernsRequester(world: World, requesterId: number, { how, domain, removed }: PastMapping): boolean {
  return how === MappingSource.operation || world.attachments.concerns(requesterId, domain, removed);
}

/** The mapping's coming, the last invalidation for it and its going. */
export function pastEvidence(world: World, past: PastMapping, page: number, now: number): Evidence[] {
  const { domain, since, removed, removedHow } = past;
  const evidence: Evidence[] = [];
  if (!Number.isNaN(since)) evidence.push(liveEvidence(world, domain, past, now));
  const invalidation = world.invalidations.lastCovering(domain, page, removed);
  if (invalidation !== undefined && !(invalidation.time < since)) {
    evidence.push(invalidationEvidence(invalidation, now));
  }
  evidence.push({
    time: removed,
    kind: removedHow === REPLACED ? 'mapping.changed' : 'mapping.removed',
    source: world.iommu,
    text: `mapping ${mapText(past)}, in ${domainText(domain)}: ${goingText(removedHow)}${ago(removed, now)}`,
  });
  return evidence;
}

export function invalidationEvidence(invalidation: Invalidation, now: number): Evidence {
  const { time, source } = invalidation;
  const text = `${invalidationText(invalidation)}${ago(time, now)}`;
  return { time, kind: 'invalidation', source, text };
}

export function invalidationText(invalidation: Invalidation): string {
  const { domain, start, pages, target, scope, origin, leafOnly, requesterId } = invalidation;
  const cache = target === InvalidationTarget.context ? 'context-cache' : 'IOTLB';
  const by =
    origin === InvalidationOrigin.queue
      ? 'by the queue'
      : origin === InvalidationOrigin.register
        ? 'by a register'
        : 'by an operation';
  const leaves = leafOnly ? ', leaf entries only' : '';
  if (scope === InvalidationScope.all) return `global ${cache} invalidation ${by}`;
  if (scope === InvalidationScope.device) {
    return `${cache} invalidation of device ${requesterText(requesterId)}, ${domainText(domain)}, ${by}`;
  }
  if (scope === InvalidationScope.domain) return `${cache} invalidation of ${domainText(domain)} ${by}`;
  return `page-selective ${cache} invalidation of ${rangeText(start, pages)}, ${domainText(domain)}${leaves}, ${by}`;
}

const ATTACH_KINDS: Readonly<Record<number, string>> = {
  [AttachKind.translated]: 'translated',
  [AttachKind.passThrough]: 'passed through',
  [AttachKind.blocked]: 'blocked',
  [AttachKind.faulty]: 'with a context entry that cannot be used',
};

export function attachEvidence(world: World, attachment: Attachment, now: number): Evidence {
  const { requesterId, pasid, domain, kind, since } = attachment;
  const tagged = pasid < 0 ? '' : ` with PASID ${pasid}`;
  const text = `${world.describe(requesterId)}${tagged} attached to ${domainText(domain)} (${ATTACH_KINDS[kind] ?? 'unknown'})${ago(since, now)}`;
  return { time: since, kind: 'attach', source: world.iommu, text };
}

export function detachEvidence(world: World, past: PastAttachment, now: number): Evidence {
  const { requesterId, pasid, domain, until, reset } = past;
  const tagged = pasid < 0 ? '' : ` with PASID ${pasid}`;
  const why = reset ? ' by a reset of the IOMMU' : '';
  const text = `${world.describe(requesterId)}${tagged} detached from ${domainText(domain)}${why}${ago(until, now)}`;
  return { time: until, kind: reset ? 'reset' : 'detach', source: world.iommu, text };
}

export function transferAddress({ page, offset }: Pick<Transfer, 'page' | 'offset'>): bigint {
  return addressOf(page, offset);
}

/** `64 bytes at 0x1000`, or `at 0x1000` where the length is not known. */
export function transferText(transfer: Transfer): string {
  const at = `at ${addressText(transferAddress(transfer))}`;
  return transfer.length > 0 ? `${bytesText(transfer.length)} ${at}` : at;
}

/** A refused request: `edu0 (01:00.0) tried to write 64 bytes at 0x1000`. */
export function triedText(world: World, requesterId: number, transfer: Transfer, pasid = -1): string {
  const tagged = pasid < 0 ? '' : ` with PASID ${pasid}`;
  return `${world.describe(requesterId)} tried to ${accessVerb(transfer.access)} ${transferText(transfer)}${tagged}`;
}

/** One that went through: `edu0 (01:00.0) wrote 64 bytes at 0x1000`. */
export function didText(world: World, requesterId: number, transfer: Transfer): string {
  return `${world.describe(requesterId)} ${accessPast(transfer.access)} ${transferText(transfer)}`;
}
