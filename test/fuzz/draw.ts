/** Descriptors that come with messages, and SET_IRQS with and without them. */
import { compose, type Outgoing } from './messages.ts';
import type { Random } from './random.ts';
import { MAX_DESCRIPTORS } from './reference.ts';
import { type DescriptorKind, EVENTFDS, OTHER_DESCRIPTORS } from './steps.ts';

export function anyDescriptors(random: Random, count: number): DescriptorKind[] {
  // The kernel ends a receive after them: more than it is asked to take are cut off, and that must be told from this side too.
  const least = count > MAX_DESCRIPTORS ? MAX_DESCRIPTORS + 1 : count;
  return Array.from({ length: Math.max(least, count) }, () => {
    const kind = random.below(10);
    if (kind < 2) return { is: 'file', file: random.below(4) };
    if (kind < 4) return { is: 'eventfd', number: random.below(EVENTFDS) };
    return { is: random.pick(OTHER_DESCRIPTORS) };
  });
}

export function anyInterrupts(random: Random): [Outgoing, DescriptorKind[]] {
  const index = random.below(random.chance(90) ? 3 : 6);
  const action = 8 << random.below(3);
  const eventfd: DescriptorKind = { is: 'eventfd', number: random.below(EVENTFDS) };
  switch (random.below(5)) {
    case 0:
      return [compose.setIrqs(1 | action, index, 0, random.below(3)), []];
    case 1:
      return [compose.setIrqs(2 | action, index, 0, 1, [random.below(2)]), []];
    case 2:
      return [
        compose.setIrqs(4 | action, index, 0, 1),
        random.chance(80) ? [eventfd] : anyDescriptors(random, 1 + random.below(2)),
      ];
    case 3:
      return [compose.setIrqs(1 | 32, index, 0, 0), []];
    default:
      return [compose.setIrqs(4 | 32, index, random.below(2), 1 + random.below(3)), random.chance(50) ? [eventfd] : []];
  }
}
