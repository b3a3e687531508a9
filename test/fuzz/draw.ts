/** Descriptors that come with messages, and what they come with: SET_IRQS and DMA_MAP, with and without them. */
import { LOW_MEMORY_BYTES } from './content.ts';
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

/** `indices`: those that the function has vectors of. */
export function anyInterrupts(random: Random, indices = 3): [Outgoing, DescriptorKind[]] {
  const index = random.below(random.chance(90) ? indices : 6);
  const action = 8 << random.below(3);
  const eventfd: DescriptorKind = { is: 'eventfd', number: random.below(EVENTFDS) };
  switch (random.below(6)) {
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
    case 4: {
      const [start, count] = [random.below(3), 1 + random.below(4)];
      const all = Array.from(
        { length: count },
        (): DescriptorKind => ({ is: 'eventfd', number: random.below(EVENTFDS) }),
      );
      return [compose.setIrqs(4 | 32, index, start, count), all];
    }
    default:
      return [compose.setIrqs(4 | 32, index, random.below(2), 1 + random.below(3)), random.chance(50) ? [eventfd] : []];
  }
}

/** DMA_MAP of anything, in every mode. */
export function anyMapping(random: Random): [Outgoing, DescriptorKind[]] {
  const pages = random.chance(80) ? 1 + random.below(64) : 1 + random.below(1024);
  const address = random.chance(90) ? BigInt(random.below(LOW_MEMORY_BYTES / 65536)) * 65536n : random.edge() & ~4095n;
  const access = random.chance(80) ? 3 : random.below(4);
  // How the descriptor is to be used: as the server likes, by mmap(2), by pread(2) and pwrite(2), or both; and what there is not.
  const flags = access | (random.chance(75) ? 0 : random.pick([4, 8, 8, 8, 12, 16]));
  if (random.chance(3)) return [mappingOfProcess(random, address, pages), [{ is: 'memory-of-process' }]];
  const offset = BigInt(random.below(256)) * (flags === 11 ? 1000n : 4096n);
  const map = compose.map(address, BigInt(pages) * 4096n, random.chance(60) ? 0n : offset, flags);
  if (random.chance(40)) return [map, []];
  if (random.chance(85)) return [map, [{ is: random.chance(90) ? 'file' : 'read-only', file: random.below(4) }]];
  return [map, anyDescriptors(random, 1 + random.below(random.chance(80) ? 1 : 3))];
}

/** Of this program: its code, or anywhere, up to where a program's memory ends. */
function mappingOfProcess(random: Random, address: bigint, pages: number): Outgoing {
  const offset = random.pick([0x400000n, 0n, 0x7ffffffde000n, BigInt(random.word()) << 15n]);
  return compose.map(address, BigInt(pages) * 4096n, offset, random.chance(80) ? 9 : random.below(16));
}
