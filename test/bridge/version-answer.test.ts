import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bridgedVersionData } from '../../src/bridge/version-answer.ts';
import { defaultLimits } from '../../src/vfio-user/limits.ts';
import type { Capabilities } from '../../src/vfio-user/version.ts';

function answer(answered: object, proposed: Capabilities, room = 190): { capabilities: Capabilities; bytes: number } {
  const data = bridgedVersionData(answered as Capabilities, proposed, defaultLimits, room);
  expect(data.at(-1)).toBe(0);
  const { capabilities } = JSON.parse(new TextDecoder().decode(data.subarray(0, -1)));
  return { capabilities, bytes: data.length };
}

describe("the server's VERSION as QEMU sees it", () => {
  it("says how many descriptors the bridge takes, and at most QEMU's number", () => {
    expect(answer({ max_msg_fds: 0 }, { max_msg_fds: 16 }).capabilities).toEqual({ max_msg_fds: 16 });
    expect(answer({}, { max_msg_fds: 3 }).capabilities).toEqual({ max_msg_fds: 3 });
    expect(answer({}, { max_msg_fds: 200 }).capabilities).toEqual({ max_msg_fds: 16 });
  });

  it('does not name what QEMU has not named', () => {
    expect(answer({ max_msg_fds: 0 }, {}).capabilities).toEqual({});
  });

  it('holds transfers to what the bridge can pass', () => {
    expect(answer({ max_data_xfer_size: 2 ** 26 }, {}).capabilities).toEqual({ max_data_xfer_size: 1048576 });
    expect(answer({ max_data_xfer_size: 4096 }, {}).capabilities).toEqual({ max_data_xfer_size: 4096 });
  });

  it('leaves out a second connection, and keeps the rest', () => {
    const answered = { twin_socket: { supported: true }, pgsizes: 4096, write_multiple: true };
    expect(answer(answered, {}).capabilities).toEqual({ pgsizes: 4096, write_multiple: true });
  });

  it("is never longer than the server's own answer, or fits QEMU's request", () => {
    const number = fc.nat({ max: 2 ** 26 });
    const capabilities = fc.record(
      { max_msg_fds: fc.nat(20), max_data_xfer_size: number, pgsizes: number },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(capabilities, capabilities, fc.nat(200), (answered, proposed, room) => {
        const own = JSON.stringify({ capabilities: answered }).length + 1;
        expect(answer(answered, proposed as Capabilities, room).bytes).toBeLessThanOrEqual(Math.max(own, room));
      }),
    );
  });
});
