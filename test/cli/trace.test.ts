import { CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import { CommandFailure, UsageError } from '../../src/cli/errors.ts';
import { EventClass, Kind } from '../../src/trace/event-kinds.ts';
import { newHeader } from '../../src/trace/recording/format.ts';
import { RecordingWriter } from '../../src/trace/recording/writer.ts';
import { damaged, text } from '../trace/recording/support.ts';
import {
  event,
  FakeMachine,
  join32,
  LIVE,
  MACHINE,
  named,
  note,
  open,
  scratch,
  viommu,
  write,
} from './recording-support.ts';

const names = join32(named(1, 'iommu'), named(2, 'edu0'), named(3, 'edu1'));
const WIDTH_4 = 4 << 4;
const WIDTH_2 = 2 << 4;
const WIDTH_8 = 8 << 4;
const CONFIG = 7;

const mapping = event('mapping.added', 1, 1_000_000, 7, 0, 0x8000, 0x1234, 1, 3);
const unmapping = event('mapping.removed', 1, 3_000_000, 7, 0, 0x8000, 0x1234, 1, 3);
const read = event('dma.read', 2, 2_000_000, 0x100, 0, 0x8000, 64, -1);
const other = event('dma.read', 3, 2_500_000, 0x200, 0, 0x9000, 64, -1);
const fault = event('fault', 1, 4_000_000, 0x100 | (1 << 16), 0, 0x8000, 6, 7, -1, 1, 0, 0, 0, 0, 48);

async function file(...records: Int32Array[]) {
  return (await write([names, ...records])).path;
}

const all = () =>
  file(mapping, read, other, unmapping, fault, note(2, 5_000_000, 'edu.mask', 'edu0', { address: 0x1_0000_0000n }));

/** What is behind time and source. */
const told = (lines: readonly string[]) => lines.map(line => line.replace(/^ *[0-9.]+ \[[^\]]*\] /, ''));

describe('viommu trace FILE', () => {
  it('prints records in order, with time and source', async () => {
    const { lines, complaints, failed } = await viommu(['trace', await all()]);
    expect(lines.map(line => line.slice(0, 60))).toEqual([
      expect.stringMatching(/^ {4}0.001000000 \[iommu\] mapping.added domain=7 iova=0x8000/),
      expect.stringMatching(/^ {4}0.002000000 \[edu0\] dma.read requesterId=01:00.0/),
      expect.stringMatching(/^ {4}0.002500000 \[edu1\] dma.read requesterId=02:00.0/),
      expect.stringMatching(/^ {4}0.003000000 \[iommu\] mapping.removed/),
      expect.stringMatching(/^ {4}0.004000000 \[iommu\] fault/),
      expect.stringMatching(/^ {4}0.005000000 \[edu0\] edu.mask address=0x100000000/),
    ]);
    expect({ complaints, failed }).toEqual({ complaints: [], failed: false });
  });

  it.each([
    ['--class fault', ['fault']],
    ['--class dma,fault', ['dma.read', 'dma.read', 'fault']],
    ['--kind mapping.removed --kind fault', ['mapping.removed', 'fault']],
    ['--device edu1', ['dma.read']],
    ['--device edu0', ['dma.read', 'fault', 'edu.mask']],
    ['--device 01:00.0', ['dma.read', 'fault', 'edu.mask']],
    ['--device 05:00.0', []],
    ['--device iommu', ['mapping.added', 'mapping.removed', 'fault']],
    ['--domain 7', ['mapping.added', 'mapping.removed', 'fault']],
    ['--domain 8', []],
    ['--iova 0x8000+0x1000', ['mapping.added', 'dma.read', 'mapping.removed', 'fault']],
    ['--iova 0x9010', ['dma.read']],
    ['--since 2500us', ['dma.read', 'mapping.removed', 'fault', 'edu.mask']],
    ['--until 2ms', ['mapping.added', 'dma.read']],
    ['--limit 2', ['mapping.added', 'dma.read']],
    ['--limit 0', []],
    ['--class dma --device edu0 --limit 5', ['dma.read']],
    ['--kind source', ['source', 'source', 'source']],
  ])('with %s prints what passes', async (flags, kinds) => {
    const { lines } = await viommu(['trace', await all(), ...flags.split(' ')]);
    expect(told(lines).map(line => line.split(' ')[0])).toEqual(kinds);
  });

  it('prints JSON lines', async () => {
    const { lines } = await viommu(['trace', await all(), '--json', '--class', 'fault']);
    expect(lines.map(line => JSON.parse(line))).toEqual([
      expect.objectContaining({
        time: 4_000_000,
        kind: 'fault',
        source: 'iommu',
        detail: expect.objectContaining({
          requesterId: '01:00.0',
          iova: '0x8000',
          cause: 'notPresent',
          access: 'read',
        }),
      }),
    ]);
  });

  it('says where records are missing, whatever is asked for', async () => {
    const path = await file(read, event('dropped', 0, 2_200_000, 17), other);
    const { lines } = await viommu(['trace', path, '--class', 'fault']);
    expect(told(lines)).toEqual(['dropped records=17']);
  });

  it('reads on behind damage, and says so', async () => {
    const records = Array.from({ length: 600 }, (_, index) => event('dma.read', 2, index, 0x100, 0, 0x8000, 4, -1));
    const { path } = await write([names, ...records], { blockBytes: 8192 });
    const { offset, bytes } = open(path).blocks[1]!;
    const bad = damaged(path, content => content.fill(0, offset + bytes - 8, offset + bytes));
    const { lines, complaints, failed } = await viommu(['trace', bad]);
    expect(lines.length).toBeGreaterThan(300);
    expect(complaints).toEqual([`at byte ${offset}: the checksum of the block is wrong: its data is damaged`]);
    expect(failed).toBe(true);
  });

  it('shows a file that was cut off', async () => {
    const path = damaged(await all(), content => content.subarray(0, content.length - 5));
    const { lines, complaints, failed } = await viommu(['trace', path]);
    expect(lines).toHaveLength(6);
    expect(complaints).toEqual(['the file was not ended properly: what there is of it is shown']);
    expect(failed).toBe(false);
  });

  it('follows a file until it is complete', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE));
    writer.append(join32(names, mapping));
    writer.flush();
    await writer.settled();
    const run = viommu(['trace', path, '--follow']);
    writer.append(read);
    writer.flush();
    await writer.settled();
    writer.append(unmapping);
    await writer.close();
    const { lines, complaints } = await run;
    expect(told(lines).map(line => line.split(' ')[0])).toEqual(['mapping.added', 'dma.read', 'mapping.removed']);
    expect(complaints).toEqual([]);
  });

  it('follows a file up to the limit', async () => {
    const path = scratch();
    const writer = await RecordingWriter.create(path, newHeader(MACHINE));
    writer.flush();
    await writer.settled();
    const run = viommu(['trace', path, '--follow', '--limit', '1']);
    writer.append(join32(names, mapping, read));
    writer.flush();
    expect(told((await run).lines).map(line => line.split(' ')[0])).toEqual(['mapping.added']);
    await writer.close();
  });

  it('does not wait for more of a file that is complete', async () => {
    expect((await viommu(['trace', await all(), '--follow'])).lines).toHaveLength(6);
  });

  it.each([
    ['no such file', ['/nowhere/a.viommu'], CommandFailure, /ENOENT/],
    ['no recording', ['/etc/hostname'], CommandFailure, /not a recording of viommu/],
    ['nothing to look at', [], UsageError, /say what to look at/],
  ])('refuses %s', async (_, words, kind, message) => {
    const run = viommu(['trace', ...words]);
    await expect(run).rejects.toBeInstanceOf(kind);
    await expect(run).rejects.toThrow(message);
  });

  it.each([
    ['--device edu7', UsageError, /no device 'edu7'.*edu0, edu1, iommu/],
    ['--kind dma.reed', UsageError, /no kind of event is called 'dma.reed'/],
    ['--class dmas', CommanderError, /no class of events is called 'dmas'/],
    ['--iova x', CommanderError, /not a range of addresses/],
    ['--since 5', CommanderError, /not a time/],
  ])('refuses %s', async (flags, kind, message) => {
    const run = viommu(['trace', await all(), ...flags.split(' ')]);
    await expect(run).rejects.toBeInstanceOf(kind);
    await expect(run).rejects.toThrow(message);
  });
});

describe('registers in viommu trace', () => {
  it('shows the fields of a VT-d command that are set, and those that become zero', async () => {
    const TE = 1 << 31;
    const SRTP = 1 << 30;
    const path = await file(
      event('register.write', 1, 1, WIDTH_4, 0x18, 0, SRTP),
      event('register.write', 1, 2, WIDTH_4, 0x18, 0, TE),
      event('register.write', 1, 3, WIDTH_4, 0x18, 0, TE),
    );
    const { lines } = await viommu(['trace', path]);
    expect(lines[0]).toBe('    0.000000001 [iommu] write GCMD SRTP=1');
    expect(told(lines)).toEqual(['write GCMD SRTP=1', 'write GCMD TE=1 SRTP=0', 'write GCMD TE=1']);
  });

  it('shows an address in its place, also where it comes in two halves', async () => {
    const path = await file(
      event('register.write', 1, 1, WIDTH_8, 0x20, 0x2, 0x12345000),
      event('register.write', 1, 2, WIDTH_4, 0x24, 0, 1),
      event('register.read', 1, 3, WIDTH_4, 0x5000, 0, 7),
    );
    expect(told((await viommu(['trace', path])).lines)).toEqual([
      'write RTADDR RTA=0x212345000',
      'write RTADDR RTA=0x112345000',
      'read bar0+0x5000 0x7 (4 bytes)',
    ]);
  });

  it('shows the commands of edu', async () => {
    const path = await file(
      event('register.write', 2, 1, WIDTH_8, 0x80, 0, 0x40000),
      event('register.write', 2, 2, WIDTH_8, 0x98, 0, 3),
      event('register.write', 2, 3, WIDTH_4, 0x98, 0, 5),
      event('register.read', 2, 4, WIDTH_4, 0x98, 0, 0),
    );
    expect(told((await viommu(['trace', path])).lines)).toEqual([
      'write dmaSource=0x40000',
      'write dmaCommand start=1 toMemory=1',
      'write dmaCommand start=1 toMemory=0 interruptWhenDone=1',
      'read dmaCommand 0',
    ]);
  });

  it('shows configuration space', async () => {
    const path = await file(
      event('register.write', 2, 1, CONFIG | WIDTH_2, 0x04, 0, 0x406),
      event('register.read', 2, 2, CONFIG | WIDTH_4, 0x00, 0, 0x11e81234),
    );
    expect(told((await viommu(['trace', path])).lines)).toEqual([
      'write config command memorySpace=1 busMaster=1 interruptDisable=1',
      'read config vendor-id=0x1234 device-id=0x11e8',
    ]);
  });

  it('shows the MSI-X table and the registers of a dma-iommu', async () => {
    const machine = { iommu: { kind: 'dma-iommu' }, endpoints: [] };
    const records = [
      event('register.write', 1, 1, 2 | WIDTH_4, 0x1c, 0, 1),
      event('register.write', 1, 2, 2 | WIDTH_4, 0x10, 0, 0xfee00000 | 0),
      event('register.write', 1, 3, WIDTH_4, 0x30, 0, 3),
    ];
    const { path } = await write([names, ...records], {}, machine);
    expect(told((await viommu(['trace', path])).lines)).toEqual([
      'write MSIX1.control masked=1',
      'write MSIX1.address=0xfee00000',
      'write CONTROL ENABLE=1 TRANSLATE=1',
    ]);
  });

  it('tells of a bulk access where it was', async () => {
    const path = await file(event('register.read', 2, 1, 0, 0x100, 0, 0));
    expect(told((await viommu(['trace', path])).lines)).toEqual(['read bar0+0x100 (bulk)']);
  });

  it('are in JSON, too', async () => {
    const path = await file(event('register.write', 1, 1, WIDTH_4, 0x18, 0, 1 << 31));
    const { lines } = await viommu(['trace', path, '--json']);
    expect(JSON.parse(lines[0]!)).toMatchObject({
      kind: 'register.write',
      detail: { region: 0, width: 4, offset: '0x18', value: '0x80000000' },
      registers: [{ name: 'GCMD', fields: { TE: '0x1' } }],
    });
  });

  it('are numbers where the machine is not known', async () => {
    const { path } = await write([names, event('register.write', 1, 1, WIDTH_4, 0x18, 0, 1 << 31)], {}, { iommu: 'x' });
    expect(told((await viommu(['trace', path])).lines)).toEqual(['write bar0+0x18 0x80000000 (4 bytes)']);
  });
});

describe('a finding that is recorded when it is new, and again at the end', () => {
  const texts = { severity: 'warning', summary: 'edu0 read', explanation: '', suggestion: '', device: 'edu0' };
  const finding = (time: number, id: string, count: number) =>
    text(Kind.finding, 1, time, { ...texts, id, detector: 'never-mapped', first: 1, last: time, count, evidence: [] });
  const twice = () =>
    file(finding(1000, 'F1', 1), finding(2000, 'F2', 1), finding(3000, 'F1', 5), finding(3000, 'F2', 1));

  it('is marked', async () => {
    const { lines } = await viommu(['trace', await twice(), '--class', 'finding']);
    expect(told(lines)).toEqual([
      'finding F1 never-mapped: edu0 read',
      'finding F2 never-mapped: edu0 read',
      'finding F1 never-mapped: edu0 read (told before; by now 5 times)',
      'finding F2 never-mapped: edu0 read (told before; by now once)',
    ]);
  });

  it('is marked in JSON', async () => {
    const { lines } = await viommu(['trace', await twice(), '--class', 'finding', '--json']);
    expect(lines.map(line => JSON.parse(line).again)).toEqual([undefined, undefined, true, true]);
  });
});

describe('viommu trace of a running machine', () => {
  it('prints records as they come, those before the answer too, and ends at the limit', async () => {
    const machine = new FakeMachine();
    machine.early = [names, mapping];
    machine.begun = take => {
      take(join32(unmapping, fault), 0);
      take(mapping, 0);
    };
    const { lines } = await viommu(['trace', ...LIVE, '--limit', '3'], machine);
    expect(told(lines).map(line => line.split(' ')[0])).toEqual(['mapping.added', 'mapping.removed', 'fault']);
    expect(lines[0]).toContain('[iommu]');
    expect(machine.stopped).toBe(true);
  });

  it('asks for what is rare, and shows nothing else that others record', async () => {
    const machine = new FakeMachine();
    machine.early = [names, read, mapping];
    const { lines } = await viommu(['trace', ...LIVE, '--limit', '1'], machine);
    expect(told(lines)[0]).toMatch(/^mapping.added/);
    expect(machine.classes! & (EventClass.dma | EventClass.register | EventClass.translation)).toBe(0);
    expect(machine.classes! & EventClass.finding).toBe(EventClass.finding);
  });

  it.each([
    ['--class dma,register', EventClass.dma | EventClass.register],
    ['--kind dma.read', EventClass.dma],
  ])('asks for %s', async (flags, classes) => {
    const machine = new FakeMachine();
    machine.early = [names, event('register.read', 2, 1, WIDTH_4, 0, 0, 0), read];
    await viommu(['trace', ...LIVE, '--limit', '1', ...flags.split(' ')], machine);
    expect(machine.classes! & ~EventClass.note).toBe(classes);
  });

  it('says how much was lost on the way', async () => {
    const machine = new FakeMachine();
    machine.begun = take => take(mapping, 4);
    const { complaints } = await viommu(['trace', ...LIVE, '--limit', '1'], machine);
    expect(complaints).toEqual(['4 batches of records were lost: this side is too slow']);
  });

  it('ends when the connection does', async () => {
    const machine = new FakeMachine();
    machine.begun = () => machine.close(new Error('the connection is closed'));
    await expect(viommu(['trace', ...LIVE], machine)).rejects.toThrow(CommandFailure);
  });

  it('refuses kinds that make no sense', async () => {
    const machine = new FakeMachine();
    machine.kinds = [{ name: 'x' }];
    await expect(viommu(['trace', ...LIVE], machine)).rejects.toThrow(/cannot be read/);
  });

  it('looks at the file where both are given', async () => {
    const { lines } = await viommu(['trace', await all(), '--dir', '/nowhere', '--limit', '1']);
    expect(lines).toHaveLength(1);
  });
});
