/** Attachments as they come and go, and what is left behind in domains that nobody uses any more. */
import { MappingSource } from '../event-kinds.ts';
import { attachEvidence, detachEvidence } from './history-evidence.ts';
import { reportLeak } from './leaks.ts';
import { domainText } from './text.ts';
import type { World } from './world.ts';

const LEFT_BY_KERNEL =
  'It is a note only: a kernel that hands a device to somebody else, as Linux does with VFIO, detaches it first and unmaps afterwards, which no event tells.';
const LEFT_AT_END = 'It is a note only: a kernel that stops does not always clean up.';

export function attached(world: World, source: string, time: number, payload: Int32Array): void {
  world.iommu = source;
  const requesterId = payload[0]! & 0xffff;
  const attachment = { requesterId, domain: payload[1]!, kind: payload[2]! & 0xf, pasid: payload[3]!, since: time };
  const before = world.attachments.attach(attachment);
  if (before !== undefined && before.domain !== attachment.domain) letGo(world, before.domain, time);
}

/** `others`: requesters that have a context entry, as far as they were told. */
export function detached(
  world: World,
  source: string,
  time: number,
  payload: Int32Array,
  others: readonly number[] | undefined,
): void {
  world.iommu = source;
  const requesterId = payload[0]! & 0xffff;
  const ended = world.attachments.detach(requesterId, payload[3]!, time, others);
  const domain = payload[1]!;
  if (world.attachments.users(domain) > 0) return;
  if (ended !== undefined && isKnownByWalks(world, domain)) {
    reportLeak(world, {
      device: world.deviceOf(requesterId),
      domain,
      time,
      kind: 'detach',
      when: `when ${world.describe(requesterId)}, the last device of the domain, was detached`,
      excuse: LEFT_BY_KERNEL,
      evidence: detachEvidence(world, { ...ended, until: time, reset: false, others }, time),
    });
  }
  letGo(world, domain, time);
}

/** What is still mapped at a reset or at the end. */
export function leftMapped(world: World, time: number, kind: string, when: string, event: string): void {
  for (const domain of [...world.mappings.domains()]) {
    const users = world.attachments.usersOf(domain, 2);
    const user = users.length === 1 ? users[0] : undefined;
    const text = user === undefined ? `${domainText(domain)} ${when}` : attachEvidence(world, user, time).text;
    reportLeak(world, {
      device: user === undefined ? world.iommu : world.deviceOf(user.requesterId),
      domain,
      time,
      kind,
      when,
      excuse: LEFT_AT_END,
      evidence: { time, kind: event, source: world.iommu, text },
    });
  }
}

/**
 * Once nobody uses the domain any more, what is known of tables that software writes by itself does not hold; what operations mapped
 * stays mapped.
 */
function letGo(world: World, domain: number, time: number): void {
  if (world.attachments.users(domain) > 0 || !isKnownByWalks(world, domain)) return;
  world.mappings.dropDomain(domain, time, MappingSource.detach);
}

/** Whether the domain's mappings are known by walks, rather than by the operations that made them. */
function isKnownByWalks(world: World, domain: number): boolean {
  for (const { how } of world.mappings.of(domain)) return how !== MappingSource.operation;
  return false;
}
