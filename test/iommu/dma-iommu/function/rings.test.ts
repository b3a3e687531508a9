import { describe, expect, it } from 'vitest';
import { COMMANDS_PER_JOB } from '../../../../src/iommu/dma-iommu/function/limits.ts';
import { RingError } from '../../../../src/iommu/dma-iommu/function/registers.ts';
import { Bench, encodeCommand, FRAMES, Frame } from './support.ts';

const flush = (cookie: number, flags = 0) =>
  encodeCommand('flushDomain', { domain: cookie }, { cookie: BigInt(cookie), flags });
const READY = 1;
const COMMAND_ERROR = 1 << 8;
const COMPLETION_ERROR = 1 << 9;
const FAULT_ERROR = 1 << 10;

const domains = (bench: Bench) => bench.operations.calls.map(call => call.args.domain);

describe('rings', () => {
  it('become ready when they are enabled', () => {
    const bench = new Bench();
    expect(bench.read('STATUS')).toBe(0);
    bench.enable();
    expect(bench.read('STATUS')).toBe(READY);
  });

  it('start at index 0 every time', () => {
    const bench = new Bench().enable();
    bench.command('flushDomain', {});
    bench.write('CONTROL', 0);
    bench.enable();
    expect(
      ['COMMAND_HEAD', 'COMMAND_TAIL', 'COMPLETION_HEAD', 'COMPLETION_TAIL'].map(name => bench.read(name)),
    ).toEqual([0, 0, 0, 0]);
    expect(bench.command('flushDomain', {}).phase).toBe(1);
  });

  it('never touch guest memory in a register write', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    expect(bench.memory.accesses).toBe(0);
    bench.jobs.run();
    expect(bench.memory.accesses).toBeGreaterThan(0);
  });

  it('carry out commands in order', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).put(flush(2)).put(flush(3)).doorbell();
    bench.jobs.run();
    expect(domains(bench)).toEqual([1, 2, 3]);
    expect(bench.take().map(one => one.cookie)).toEqual([1n, 2n, 3n]);
    expect(bench.read('COMMAND_HEAD')).toBe(3);
  });

  it('wrap around, and the phase changes with every lap', () => {
    const bench = new Bench().enable({ command: 2, completion: 1 });
    const phases: unknown[] = [];
    for (let i = 0; i < 11; i++) phases.push(bench.command('flushDomain', { domain: i }).phase);
    expect(phases).toEqual([1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0]);
    expect(bench.read('COMMAND_HEAD')).toBe(3);
    expect(bench.read('COMPLETION_TAIL')).toBe(1);
  });

  it('may lie across pages', () => {
    const bench = new Bench().enable({ command: 6, completion: 7 });
    for (let i = 0; i < 63; i++) bench.put(flush(i));
    bench.doorbell();
    bench.jobs.run();
    for (let i = 63; i < 100; i++) bench.put(flush(i));
    bench.doorbell();
    bench.jobs.run();
    expect(bench.take().map(one => one.cookie)).toEqual(Array.from({ length: 100 }, (_, i) => BigInt(i)));
  });

  it('take the largest size', () => {
    const bench = new Bench().enable({ command: 16, completion: 16 });
    expect(bench.read('STATUS')).toBe(READY);
  });

  it('let other jobs run after a number of commands', () => {
    const bench = new Bench().enable({ command: 8, completion: 8 });
    for (let i = 0; i < COMMANDS_PER_JOB + 1; i++) bench.put(flush(i));
    bench.doorbell();
    let between = -1;
    bench.jobs.step();
    while (bench.jobs.length > 1) bench.jobs.step();
    between = bench.operations.calls.length;
    expect(between).toBe(COMMANDS_PER_JOB);
    bench.jobs.run();
    expect(bench.operations.calls).toHaveLength(COMMANDS_PER_JOB + 1);
  });

  it('cannot be moved while they are enabled', () => {
    const bench = new Bench().enable();
    bench.write64('COMMAND_BASE', 0x7000n);
    bench.write('COMPLETION_SIZE', 9);
    expect(bench.read64('COMMAND_BASE')).toBe(BigInt(Frame.commands) << 12n);
    expect(bench.read('COMPLETION_SIZE')).toBe(3);
    expect(bench.trace.kinds().filter(kind => kind === 'dmaIommu.ringInUse')).toHaveLength(3);
  });

  it('have no doorbell while they are disabled', () => {
    const bench = new Bench();
    bench.write('COMMAND_TAIL', 1);
    expect(bench.read('COMMAND_TAIL')).toBe(0);
    expect(bench.trace.kinds()).toEqual(['dmaIommu.ringNotEnabled']);
  });
});

describe('a full completion ring', () => {
  it('makes commands wait', () => {
    const bench = new Bench().enable({ completion: 1 });
    bench.put(flush(1)).put(flush(2)).put(flush(3)).doorbell();
    bench.jobs.run();
    expect(domains(bench)).toEqual([1]);
    expect(bench.read('COMMAND_HEAD')).toBe(1);
    expect(bench.jobs.length).toBe(0);
  });

  it('lets them go on when there is room', () => {
    const bench = new Bench().enable({ completion: 1 });
    bench.put(flush(1)).put(flush(2)).doorbell();
    bench.jobs.run();
    expect(bench.take().map(one => one.cookie)).toEqual([1n]);
    bench.jobs.run();
    expect(bench.take().map(one => one.cookie)).toEqual([2n]);
    expect(bench.read('COMMAND_HEAD')).toBe(2);
  });

  it('loses nothing over many laps', () => {
    const bench = new Bench().enable({ command: 4, completion: 2 });
    const seen: unknown[] = [];
    for (let i = 0; i < 60; i += 12) {
      for (let k = 0; k < 12; k++) bench.put(flush(i + k));
      bench.doorbell();
      for (let round = 0; round < 6; round++) {
        bench.jobs.run();
        seen.push(...bench.take().map(one => one.cookie));
      }
    }
    expect(seen).toEqual(Array.from({ length: 60 }, (_, i) => BigInt(i)));
  });
});

describe('a ring programmed wrongly', () => {
  const place = (base: bigint, size: number, which = 'COMMAND') => {
    const bench = new Bench();
    bench.write64('COMMAND_BASE', BigInt(Frame.commands) << 12n);
    bench.write('COMMAND_SIZE', 3);
    bench.write64('COMPLETION_BASE', BigInt(Frame.completions) << 12n);
    bench.write('COMPLETION_SIZE', 3);
    bench.write64(`${which}_BASE`, base);
    bench.write(`${which}_SIZE`, size);
    bench.write('CONTROL', 1);
    return bench;
  };
  const OK = BigInt(Frame.data) << 12n;

  it.each([
    ['a base within a page', OK + 8n, 3, RingError.alignment],
    ['size 0', OK, 0, RingError.size],
    ['too large a size', OK, 17, RingError.size],
    ['a huge size', OK, 0xffffffff, RingError.size],
    ['the last page below 8 TiB, and beyond', (1n << 43n) - 4096n, 6, RingError.address],
    ['a base of 8 TiB', 1n << 43n, 1, RingError.address],
    ['a base of all ones', 0xfffffffffffff000n, 3, RingError.address],
  ] as const)('%s', (_about, base, size, error) => {
    const bench = place(base, size);
    expect(bench.read('STATUS')).toBe(COMMAND_ERROR);
    expect(bench.read('ERROR')).toBe(error);
    expect(bench.trace.kinds()).toContain('dmaIommu.ringError');
    bench.write('COMMAND_TAIL', 1);
    bench.jobs.run();
    expect([bench.read('COMMAND_TAIL'), bench.read('ERROR')]).toEqual([0, error]);
    expect(bench.operations.calls).toEqual([]);
  });

  it('takes the last page below 8 TiB, where it fits', () => {
    expect(place((1n << 43n) - 4096n, 5).read('STATUS')).toBe(READY);
  });

  it('tells the completion ring from the command ring', () => {
    const bench = place(OK + 1n, 3, 'COMPLETION');
    expect(bench.read('STATUS')).toBe(COMPLETION_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.alignment << 8);
  });

  it('is ready without a fault ring, but not with a bad one ignored', () => {
    expect(place(0n, 0, 'FAULT').read('STATUS')).toBe(READY);
    const bench = place(OK, 31, 'FAULT');
    expect(bench.read('STATUS')).toBe(READY | FAULT_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.size << 16);
  });

  it('shows the same error again where software clears it and changes nothing', () => {
    const bench = place(OK + 8n, 3);
    bench.write('STATUS', COMMAND_ERROR);
    expect(bench.read('STATUS')).toBe(COMMAND_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.alignment);
  });

  it('works once it is disabled, put right, cleared and enabled', () => {
    const bench = place(OK + 8n, 3);
    bench.write('CONTROL', 0);
    bench.write('STATUS', COMMAND_ERROR);
    expect([bench.read('STATUS'), bench.read('ERROR')]).toEqual([0, 0]);
    bench.enable();
    expect(bench.command('flushDomain', { domain: 3 }).status).toBe(0);
  });

  it('does not run before the error is cleared', () => {
    const bench = place(OK + 8n, 3);
    bench.write('CONTROL', 0);
    bench.enable();
    expect(bench.read('STATUS')).toBe(COMMAND_ERROR);
    bench.put(flush(1)).doorbell();
    bench.jobs.run();
    expect(bench.operations.calls).toEqual([]);
    bench.write('STATUS', COMMAND_ERROR);
    bench.jobs.run();
    expect(domains(bench)).toEqual([1]);
    expect(bench.read('STATUS')).toBe(READY);
  });
});

describe('an index', () => {
  it.each([8, 9, 0x10000, 0x80000000, 0xffffffff])('of %i beyond the ring is refused', index => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    bench.write('COMMAND_TAIL', index);
    bench.jobs.run();
    expect(bench.read('STATUS')).toBe(COMMAND_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.index);
    expect(bench.read('COMMAND_TAIL')).toBe(1);
    expect(bench.operations.calls).toEqual([]);
    bench.write('STATUS', COMMAND_ERROR);
    bench.jobs.run();
    expect(domains(bench)).toEqual([1]);
  });

  it('may not pass the entries that wait', () => {
    const bench = new Bench().enable({ completion: 1 });
    for (let i = 1; i <= 6; i++) bench.put(flush(i));
    bench.doorbell();
    bench.jobs.run();
    bench.write('COMMAND_TAIL', 3);
    expect(bench.read('ERROR')).toBe(RingError.index);
    expect(bench.read('COMMAND_TAIL')).toBe(6);
  });

  it('of completions beyond what was written is refused', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).put(flush(2)).doorbell();
    bench.jobs.run();
    bench.write('COMPLETION_HEAD', 3);
    expect(bench.read('STATUS')).toBe(COMPLETION_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.index << 8);
    expect(bench.read('COMPLETION_HEAD')).toBe(0);
    bench.write('STATUS', COMPLETION_ERROR);
    bench.write('COMPLETION_HEAD', 2);
    expect([bench.read('STATUS'), bench.read('COMPLETION_HEAD')]).toEqual([READY, 2]);
  });

  it('of completions may not go back', () => {
    const bench = new Bench().enable();
    bench.command('flushDomain', {});
    bench.write('COMPLETION_HEAD', 0);
    expect(bench.read('ERROR')).toBe(RingError.index << 8);
  });

  it('is refused where the ring is in error', () => {
    const bench = new Bench();
    bench.write('CONTROL', 1);
    bench.write('COMMAND_TAIL', 1);
    expect(bench.read('COMMAND_TAIL')).toBe(0);
  });
});

describe('an entry that is not in memory', () => {
  it('stops the command ring', () => {
    const bench = new Bench();
    bench.memory.protect(Frame.commands, 1, { readable: false, writable: true });
    bench.enable();
    bench.put(flush(1)).doorbell();
    bench.jobs.run();
    expect(bench.read('STATUS')).toBe(COMMAND_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.memory);
    expect(bench.read('COMMAND_HEAD')).toBe(0);
    bench.memory.protect(Frame.commands, 1, { readable: true, writable: true });
    bench.write('STATUS', COMMAND_ERROR);
    bench.jobs.run();
    expect(domains(bench)).toEqual([1]);
  });

  it('stops the completion ring; the answer is written when software has cleared the error', () => {
    const bench = new Bench();
    bench.memory.protect(Frame.completions, 1, { readable: true, writable: false });
    bench.enable();
    bench.put(flush(1)).put(flush(2)).doorbell();
    bench.jobs.run();
    expect(bench.read('STATUS')).toBe(COMPLETION_ERROR);
    expect(bench.read('ERROR')).toBe(RingError.memory << 8);
    expect(domains(bench)).toEqual([1]);
    bench.memory.protect(Frame.completions, 1, { readable: true, writable: true });
    bench.write('STATUS', COMPLETION_ERROR);
    bench.jobs.run();
    expect(domains(bench)).toEqual([1, 2]);
    expect(bench.take().map(one => one.cookie)).toEqual([1n, 2n]);
  });

  it('beyond all memory is the same error', () => {
    const bench = new Bench();
    bench.write64('COMMAND_BASE', BigInt(FRAMES) << 12n);
    bench.write('COMMAND_SIZE', 3);
    bench.write64('COMPLETION_BASE', 1n << 42n);
    bench.write('COMPLETION_SIZE', 3);
    bench.write('CONTROL', 1);
    bench.write('COMMAND_TAIL', 1);
    bench.jobs.run();
    expect(bench.read('ERROR')).toBe(RingError.memory);
  });
});
