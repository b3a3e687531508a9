/** The suite itself: servers that are wrong in a known way must be found out. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EventLoop, PollEvents } from '../../src/posix/event-loop.ts';
import { acceptUnix, closeDescriptor, listenUnix } from '../../src/posix/socket.ts';
import type { DeviceFacts } from '../../src/vfio-user/conformance/context.ts';
import { MEMORY } from '../../src/vfio-user/conformance/edu-driver.ts';
import { formatGone, formatResult, formatSummary, jsonReport } from '../../src/vfio-user/conformance/report.ts';
import type { Rule } from '../../src/vfio-user/conformance/rule.ts';
import { allRules } from '../../src/vfio-user/conformance/rules/all.ts';
import { type Result, runRule, selectRules, stillServes } from '../../src/vfio-user/conformance/runner.ts';
import { dmaPayload, message, NOTHING, versionPayload, words } from '../../src/vfio-user/conformance/wire.ts';
import { Connection } from '../../src/vfio-user/connection.ts';
import type { Header } from '../../src/vfio-user/header.ts';
import { defaultLimits } from '../../src/vfio-user/limits.ts';
import { Command, HeaderFlag } from '../../src/vfio-user/spec.ts';

const SILENCE_MS = 30;
const REPLY = HeaderFlag.typeReply;
const FAILED = HeaderFlag.typeReply | HeaderFlag.error;
const DEVICE: DeviceFacts = {
  flags: 3,
  regions: Array.from({ length: 9 }, (_, index) => ({
    index,
    flags: index === 7 ? 3 : 0,
    size: index === 7 ? 256n : 0n,
  })),
  irqs: Array.from({ length: 5 }, (_, index) => ({ index, flags: 0, count: 0 })),
};

/** What a server says to one message: bytes, nothing at all, or the end of the connection. */
type Answer = Uint8Array | undefined | 'close';
type Server = (header: Header, payload: Uint8Array) => Answer;

let directory: string;
let loop: EventLoop;
let close: () => void = () => {};

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-conformance-'));
  loop = new EventLoop(error => {
    throw error;
  });
});
afterEach(() => {
  close();
  close = () => {};
  loop.close();
  rmSync(directory, { recursive: true, force: true });
});

function serve(server: Server): string {
  const path = join(directory, 'server.sock');
  const listener = listenUnix(path);
  const connections: Connection[] = [];
  const watch = loop.watch(listener, PollEvents.in, () => {
    for (let fd = acceptUnix(listener); fd >= 0; fd = acceptUnix(listener)) connections.push(connection(fd, server));
  });
  close = () => {
    watch.stop();
    closeDescriptor(listener);
    for (const one of connections) one.close('over');
  };
  return path;
}

function connection(fd: number, server: Server): Connection {
  const one: Connection = new Connection(fd, loop, defaultLimits, {
    replyRoom: () => 4096,
    message(header, at, length, descriptors) {
      for (const descriptor of descriptors) closeDescriptor(descriptor);
      const answer = server(header, one.input.slice(at, at + length));
      if (answer === 'close') one.close('as it pleases');
      if (!(answer instanceof Uint8Array)) return;
      const out = one.reserve(answer.length);
      one.output.set(answer, out);
      one.commit(answer.length);
    },
    closed: () => {},
  });
  return one;
}

/** Answers as it should what a rule needs to begin with, and the rest as told. */
function mostly(answer: Server): Server {
  return (header, payload) => {
    const { id, command } = header;
    if (command === Command.version)
      return message(command, versionPayload({ capabilities: {} }), { id, flags: REPLY });
    return answer(header, payload);
  };
}

function rule(id: string): Rule {
  return allRules.find(one => one.id === id)!;
}

function run(id: string, server: Server): Result {
  return runRule(rule(id), { path: serve(server), loop, patience: SILENCE_MS }, DEVICE);
}

function info({ id, command }: Header, extra = NOTHING): Uint8Array {
  return message(command, new Uint8Array([...words(16, 3, 9, 5), ...extra]), { id, flags: REPLY });
}

describe('a server that', () => {
  it('does as it should keeps the rule', () => {
    expect(
      run(
        'header.id-echoed',
        mostly(header => info(header)),
      ),
    ).toMatchObject({ verdict: 'pass', why: '' });
  });

  it('says nothing breaks it', () => {
    const { verdict, why } = run('header.id-echoed', () => undefined);
    expect(verdict).toBe('fail');
    expect(why).toBe(`the reply to version: nothing within ${SILENCE_MS} ms`);
  });

  it('closes each connection breaks it', () => {
    expect(run('header.id-echoed', () => 'close').why).toBe(
      'the server closed the connection instead of: the reply to version',
    );
  });

  it('answers with another id breaks it', () => {
    const { why } = run(
      'header.id-echoed',
      mostly(({ command }) => message(command, words(16, 3, 9, 5), { id: 1, flags: REPLY })),
    );
    expect(why).toBe('expected the reply to deviceGetInfo (id 4660), got one to deviceGetInfo (id 1)');
  });

  it('answers with another command breaks it', () => {
    const { why } = run(
      'header.command-echoed',
      mostly(({ id }) => message(Command.deviceGetInfo, words(16, 3, 9, 5), { id, flags: REPLY })),
    );
    expect(why).toMatch(/^expected the reply to deviceGetIrqInfo .* got one to deviceGetInfo/);
  });

  it('refuses what it must do breaks it', () => {
    const { why } = run(
      'header.id-echoed',
      mostly(({ id, command }) => message(command, NOTHING, { id, flags: FAILED, error: 22 })),
    );
    expect(why).toBe('deviceGetInfo failed with errno 22');
  });

  it('does what it must refuse breaks it', () => {
    expect(
      run(
        'header.unknown-command',
        mostly(header => info(header)),
      ).why,
    ).toBe('command 77 succeeded with a number that no command has');
  });

  it('puts a payload behind an error breaks every rule that meets one', () => {
    const { why } = run(
      'header.unknown-command',
      mostly(({ id, command }) => message(command, words(1), { id, flags: FAILED, error: 95 })),
    );
    expect(why).toBe('the error reply to command 77 carries 4 bytes of payload');
  });

  it('sends an errno that is none breaks every rule that meets one', () => {
    const { why } = run(
      'header.unknown-command',
      mostly(({ id, command }) => message(command, NOTHING, { id, flags: FAILED, error: 0xffffffea })),
    );
    expect(why).toBe('the error reply to command 77 carries 4294967274, which is no errno');
  });

  it.each(['delivery.byte-by-byte', 'delivery.cut-before-last-byte', 'delivery.one-and-a-half'])(
    'refuses what came in pieces breaks %s',
    id => {
      const { why } = run(
        id,
        mostly(({ id, command }) => message(command, NOTHING, { id, flags: FAILED, error: 22 })),
      );
      expect(why).toMatch(/^errno of message [0-9]+: expected 0, got 22$/);
    },
  );

  it('answers a command that asked for no answer breaks it', () => {
    expect(
      run(
        'header.no-reply',
        mostly(header => info(header)),
      ).verdict,
    ).toBe('fail');
  });

  it('sends a header of an impossible size breaks it', () => {
    const { why } = run(
      'header.id-echoed',
      mostly(({ id, command }) => message(command, NOTHING, { id, flags: REPLY, size: 3 })),
    );
    expect(why).toBe('the server sent a header with a size of 3');
  });

  it('promises more than it was asked for breaks the rule of the subset', () => {
    const { why } = run('version.reply-subset', ({ id, command }) =>
      message(command, versionPayload({ capabilities: { teleport: 1 } }), { id, flags: REPLY }),
    );
    expect(why).toBe('not proposed: teleport');
  });

  it('takes any major version breaks that rule', () => {
    expect(
      run(
        'version.major-unsupported',
        mostly(header => info(header)),
      ).why,
    ).toBe('the handshake succeeded with major version 1');
  });

  it('serves without a handshake breaks that rule', () => {
    expect(
      run(
        'version.first-info',
        mostly(header => info(header)),
      ).why,
    ).toBe('a command before VERSION was done');
  });

  it('does not end its version data breaks that rule', () => {
    const { why } = run('version.reply-json', header =>
      header.command === Command.version
        ? message(header.command, versionPayload({}, { end: '' }), { id: header.id, flags: REPLY })
        : info(header),
    );
    expect(why).toMatch(/^the last byte of the version data: expected 0/);
  });

  it('forgets that it mapped a region breaks the rule of overlaps', () => {
    const { why } = run(
      'dma-map.overlap-same',
      mostly(({ id, command }) => message(command, NOTHING, { id, flags: REPLY })),
    );
    expect(why).toBe('dmaMap succeeded with the same region again');
  });

  it('names another errno than EEXIST breaks it too', () => {
    let maps = 0;
    const { why } = run(
      'dma-map.overlap-same',
      mostly(header => {
        const { id, command } = header;
        if (command === Command.deviceGetInfo) return info(header);
        return maps++ === 0
          ? message(command, NOTHING, { id, flags: REPLY })
          : message(command, NOTHING, { id, flags: FAILED, error: 22 });
      }),
    );
    expect(why).toBe('errno: expected 17, got 22');
  });

  it('dies of a rule breaks it, although the rule itself was kept', () => {
    let dead = false;
    const { verdict, why } = run('version.first-reset', ({ command }) => {
      if (command === Command.deviceReset) dead = true;
      return dead ? 'close' : undefined;
    });
    expect(verdict).toBe('fail');
    expect(why).toMatch(/^the server closed the connection instead of: the reply to version/);
  });
});

describe('a server after a broken rule', () => {
  const serves = (path: string) => stillServes({ path, loop, patience: SILENCE_MS }, DEVICE);

  it('may serve the next client', () => {
    expect(serves(serve(mostly(header => info(header))))).toBe(true);
  });

  it('may be gone', () => {
    const path = serve(({ command }) => {
      if (command === Command.deviceReset) close();
      return 'close';
    });
    const { verdict, why } = runRule(rule('version.first-reset'), { path, loop, patience: SILENCE_MS }, DEVICE);
    close = () => {};
    expect(verdict).toBe('fail');
    expect(why).toMatch(/^the server cannot be reached: connect /);
    expect(serves(path)).toBe(false);
  });

  it('may answer nobody', () => {
    expect(serves(serve(() => undefined))).toBe(false);
  });

  it('may come back', () => {
    let clients = 0;
    const path = serve(header => {
      if (header.command === Command.version && clients++ === 0) return 'close';
      return mostly(one => info(one))(header, NOTHING);
    });
    expect(serves(path)).toBe(true);
    expect(clients).toBe(2);
  });
});

/** An edu device that asks for memory before it answers the write that made it ask, as one does that knows no jobs. */
const askingFirst = mostly(({ id, command, flags }, payload) => {
  if (command === Command.regionRead) {
    const identity = payload[8] === 7 ? [0x34, 0x12, 0xe8, 0x11] : [0, 0, 0, 0];
    return message(command, new Uint8Array([...payload.subarray(0, 16), ...identity]), { id, flags: REPLY });
  }
  if (command === Command.regionWrite) {
    const isCommand = payload[8] === 0 && payload[0] === 0x98;
    if (isCommand) return message(Command.dmaRead, dmaPayload(MEMORY, 64), { id: 7 });
    return message(command, payload.subarray(0, 16), { id, flags: REPLY });
  }
  return (flags & HeaderFlag.noReply) !== 0 ? undefined : message(command, NOTHING, { id, flags: REPLY });
});

describe('a server that asks before it answers', () => {
  it.each(['dma-read.client-gone', 'dma-read.empty-reply', 'dma-read.wrong-command'])('keeps %s', id => {
    expect(run(id, askingFirst)).toMatchObject({ verdict: 'pass', why: '' });
  });
});

describe('INTx without a level', () => {
  it.each(['device-irq.intx-masked', 'device-irq.intx-level', 'device-irq.intx-before-eventfd'])(
    'is no matter of %s',
    id => {
      const irqs = DEVICE.irqs.map(irq => (irq.index === 0 ? { ...irq, flags: 1, count: 1 } : irq));
      const path = serve(mostly(header => info(header)));
      const { verdict, why } = runRule(rule(id), { path, loop, patience: SILENCE_MS }, { ...DEVICE, irqs });
      expect({ verdict, why }).toEqual({ verdict: 'skip', why: 'the device has no INTx that masks itself' });
    },
  );
});

describe('a rule that cannot be seen', () => {
  it('is skipped, with what is missing', () => {
    const result = run(
      'signals.trigger-none',
      mostly(header => info(header)),
    );
    expect(result).toMatchObject({
      verdict: 'skip',
      why: 'the device has no interrupt index with a vector and eventfds',
    });
  });

  it('is skipped where the descriptors cannot be counted', () => {
    const result = run(
      'connection.no-descriptors-left',
      mostly(header => info(header)),
    );
    expect(result).toMatchObject({ verdict: 'skip', why: "the server's process is not known (--pid)" });
  });
});

describe('the list of rules', () => {
  it('has two hundred at least', () => {
    expect(allRules.length).toBeGreaterThanOrEqual(200);
  });

  it('has no id twice', () => {
    expect(new Set(allRules.map(({ id }) => id)).size).toBe(allRules.length);
  });

  it('is chosen from by the beginning of ids', () => {
    const ids = selectRules(allRules, ['dma-map.overlap', 'reset']).map(({ id }) => id);
    expect(ids).toContain('dma-map.overlap-start');
    expect(ids).toContain('reset.answered');
    expect(ids.every(id => id.startsWith('dma-map.overlap') || id.startsWith('reset'))).toBe(true);
    expect(selectRules(allRules, [])).toBe(allRules);
  });
});

describe('the report', () => {
  const result: Result = {
    id: 'reset.answered',
    section: 'VFIO_USER_DEVICE_RESET',
    basis: 'specification',
    says: 'A device can be reset.',
    verdict: 'fail',
    why: 'errno 22',
    milliseconds: 1,
  };

  it('says of a broken rule what happened, and where the rule stands', () => {
    expect(formatResult(result)).toMatch(
      /^FAIL {2}reset\.answered +A device can be reset\.\n {6}errno 22 {2}\(VFIO_USER_DEVICE_RESET; specification\)$/,
    );
  });

  it('says of a kept rule that it is kept', () => {
    expect(formatResult({ ...result, verdict: 'pass', why: '' })).toMatch(
      /^PASS {2}reset\.answered +A device can be reset\.$/,
    );
  });

  it('counts', () => {
    const results = [result, { ...result, verdict: 'pass' as const }, { ...result, verdict: 'skip' as const }];
    expect(formatSummary(results)).toBe('3 rules: 1 kept, 1 broken, 1 skipped');
    expect(jsonReport('/x', results)).toMatchObject({ server: '/x', summary: { pass: 1, fail: 1, skip: 1 } });
  });

  it('says how many rules a server that ended left', () => {
    expect(formatGone(result, 2)).toBe(
      'The server is gone: nobody has been served since reset.answered. 2 rules were not tried.',
    );
    expect(formatGone(result, 1)).toMatch(/ 1 rule was not tried\.$/);
    expect(jsonReport('/x', [result], 2).untried).toBe(2);
  });
});
