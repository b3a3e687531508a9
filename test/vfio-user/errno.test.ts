/** Whatever comes, the errno of a refusal is one that docs/vfio-user.md names for the command. */
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Command, commandName } from '../../src/vfio-user/spec.ts';
import { Rig } from './rig.ts';

const ENOENT = 2;
const EEXIST = 17;
const EINVAL = 22;
const ENOTTY = 25;
const ENOSPC = 28;
const ENOTSUP = 95;

/** For a device that cannot be saved. */
const allowed: readonly (readonly [number, readonly number[]])[] = [
  [Command.dmaMap, [EINVAL, EEXIST, ENOSPC]],
  [Command.dmaUnmap, [ENOENT, EINVAL, ENOTSUP]],
  [Command.deviceGetInfo, [EINVAL]],
  [Command.deviceGetRegionInfo, [EINVAL]],
  [Command.deviceGetRegionIoFds, [EINVAL]],
  [Command.deviceGetIrqInfo, [EINVAL]],
  [Command.deviceSetIrqs, [EINVAL]],
  [Command.regionRead, [EINVAL]],
  [Command.regionWrite, [EINVAL]],
  [Command.deviceReset, []],
  [Command.regionWriteMulti, [EINVAL]],
  [Command.deviceFeature, [EINVAL, ENOTTY]],
  [Command.migrationDataRead, [EINVAL, ENOTSUP]],
  [Command.migrationDataWrite, [EINVAL, ENOTSUP]],
  [Command.dirtyPages, [ENOTSUP]],
  [Command.dmaRead, [ENOTSUP]],
  [0x1234, [ENOTSUP]],
];

/** Small numbers reach further into a handler than large ones. */
const word = fc.oneof(
  fc.nat(64),
  fc.constantFrom(0x1000, 0x2000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff),
  fc.nat(0xffffffff),
);
const payload = fc
  .tuple(fc.array(word, { maxLength: 16 }), fc.nat(3))
  .map(([words, cut]) => new Uint8Array(Uint32Array.from(words).buffer).slice(0, Math.max(0, 4 * words.length - cut)));

let rig: Rig;
beforeEach(() => {
  rig = new Rig();
});
afterEach(() => rig.close());

describe('refusals', () => {
  it.each(allowed.map(([command, errnos]) => [commandName(command), command, errnos] as const))(
    'of %s have an errno that is documented, and a header alone',
    (_, command, errnos) => {
      const client = rig.connect();
      client.negotiate({ capabilities: { write_multiple: true, max_msg_fds: 16 } });
      fc.assert(
        fc.property(payload, bytes => {
          const answer = client.request(command, bytes);
          expect([0, ...errnos]).toContain(answer.errno);
          if (answer.errno !== 0) expect(answer.payload).toHaveLength(0);
        }),
        { numRuns: 300 },
      );
      expect(client.getDeviceInfo().regions).toBe(9);
    },
  );
});
