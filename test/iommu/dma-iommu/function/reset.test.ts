import { describe, expect, it } from 'vitest';
import { type FaultInformation, FaultInformationArch } from '../../../../src/iommu/dma-iommu/types.ts';
import { Bench, encodeCommand, Frame } from './support.ts';

const LIST = BigInt(Frame.data) << 12n;
const flush = (domain: number) => encodeCommand('flushDomain', { domain }, { cookie: BigInt(domain) });
const RESET = 4;

const fault: FaultInformation = {
  type: FaultInformationArch.X64,
  isStage1: false,
  requesterId: 1,
  access: 1,
  pasid: -1,
  x64: {
    domainHandle: 0,
    faultAddress: 0n,
    flags: { faultAddressValid: true },
    type: 6,
    iommuBaseAddress: 0n,
    pciSegment: 0,
  },
};

describe('a reset', () => {
  it('resets the unit, the registers and translation', () => {
    const bench = new Bench().enable();
    bench.write('CONTROL', 3);
    expect(bench.translation.enabled).toBe(true);
    bench.write('CONTROL', RESET | 3);
    expect(bench.operations.resets).toBe(1);
    expect(bench.translation.enabled).toBe(false);
    for (const name of ['CONTROL', 'STATUS', 'COMMAND_SIZE', 'COMPLETION_SIZE', 'FAULT_SIZE']) {
      expect([name, bench.read(name)]).toEqual([name, 0]);
    }
  });

  it('calls off jobs that wait', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    bench.unit.reset();
    bench.jobs.run();
    expect(bench.operations.calls).toEqual([]);
    expect(bench.memory.accesses).toBe(0);
  });

  it('lets the rings work again', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    bench.write('CONTROL', RESET);
    bench.enable();
    expect(bench.command('flushDomain', { domain: 2 }).phase).toBe(1);
    expect(bench.operations.calls.map(call => call.args.domain)).toEqual([2]);
  });

  it.each([
    ['while an entry is read', 1],
    ['while the answer is written', 2],
  ])('%s ends the command', (_about, access) => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    let seen = 0;
    bench.memory.during = () => {
      if (++seen === access) bench.unit.reset();
    };
    bench.jobs.run();
    expect(seen).toBe(access);
    expect(bench.read('STATUS')).toBe(0);
    expect(bench.read('COMPLETION_TAIL')).toBe(0);
    expect(bench.read('COMMAND_HEAD')).toBe(0);
    expect(bench.completion(0).phase).toBe(0);
    expect(bench.line.raised).toEqual([]);
  });

  it('while a list is read means that the operation is not called', () => {
    const bench = new Bench().enable();
    bench.put(encodeCommand('mapLogicalRangeEx', { memory: { type: 2, address: LIST, size: 1 } })).doorbell();
    let seen = 0;
    bench.memory.during = () => {
      if (++seen === 2) bench.unit.reset();
    };
    bench.jobs.run();
    expect(seen).toBe(2);
    expect(bench.operations.calls).toEqual([]);
    expect(bench.read('STATUS')).toBe(0);
  });

  it('between the pieces of a list stops reading it', () => {
    const bench = new Bench().enable();
    bench.put(encodeCommand('mapLogicalRangeEx', { memory: { type: 2, address: 0n, size: 200_000 } })).doorbell();
    let seen = 0;
    bench.memory.during = () => {
      if (++seen === 3) bench.unit.reset();
    };
    bench.jobs.run();
    expect(seen).toBe(3);
    expect(bench.operations.calls).toEqual([]);
  });

  it('within an operation writes no completion', () => {
    const bench = new Bench().enable();
    bench.operations.onCall = () => bench.unit.reset();
    bench.put(flush(1)).put(flush(2)).doorbell();
    bench.jobs.run();
    expect(bench.operations.calls).toHaveLength(1);
    expect(bench.completion(0).phase).toBe(0);
  });

  it('and an enable while the answer is written starts a clean ring', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    let seen = 0;
    bench.memory.during = () => {
      if (++seen !== 2) return;
      bench.unit.reset();
      bench.enable();
    };
    bench.jobs.run();
    expect(bench.read('COMPLETION_TAIL')).toBe(0);
    expect(bench.command('flushDomain', { domain: 2 })).toMatchObject({ phase: 1, status: 0 });
  });

  it('leaves what comes after it to jobs of its own', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    bench.unit.reset();
    bench.enable();
    bench.put(flush(2)).doorbell();
    bench.jobs.step();
    expect(bench.operations.calls).toEqual([]);
    bench.jobs.run();
    expect(bench.operations.calls.map(call => call.args.domain)).toEqual([2]);
  });

  it('within a job leaves what comes after it to another', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    const waiting = bench.jobs.length;
    let seen = 0;
    bench.memory.during = () => {
      if (++seen !== 2) return;
      bench.unit.reset();
      bench.enable();
      bench.put(flush(2)).doorbell();
    };
    for (let i = 0; i < waiting; i++) bench.jobs.step();
    expect(bench.operations.calls.map(call => call.args.domain)).toEqual([1]);
    bench.jobs.run();
    expect(bench.operations.calls.map(call => call.args.domain)).toEqual([1, 2]);
  });

  it('forgets what waited for room', () => {
    const bench = new Bench().enable({ completion: 1 });
    bench.command('registerInterfaceStateChangeCallback', { device: 1, stateFields: 1 });
    const { stateChangeCallback } = bench.operations.calls[0]?.args ?? {};
    bench.put(flush(1)).doorbell();
    bench.jobs.run();
    stateChangeCallback({ presentFields: 1, availableDomainTypes: 1 }, 0n);
    bench.jobs.run();
    bench.unit.reset();
    bench.enable();
    bench.jobs.run();
    expect(bench.read('COMPLETION_TAIL')).toBe(0);
  });

  it('makes handlers of before deaf', () => {
    const bench = new Bench().enable();
    bench.command('setDeviceFaultReporting', { enable: 1, hasConfig: 1, context: 1 });
    const { faultHandler } = bench.operations.calls[0]?.args.faultConfig ?? {};
    bench.command('registerInterfaceStateChangeCallback', { device: 1, stateFields: 1 });
    const { stateChangeCallback } = bench.operations.calls[1]?.args ?? {};
    bench.unit.reset();
    bench.enable();
    faultHandler(1n, fault);
    stateChangeCallback({ presentFields: 1, availableDomainTypes: 1 }, 0n);
    bench.jobs.run();
    expect(bench.read('FAULT_TAIL')).toBe(0);
    expect(bench.read('FAULT_OVERFLOW')).toBe(0);
    expect(bench.read('COMPLETION_TAIL')).toBe(0);
  });

  it('lowers the interrupt line', () => {
    const bench = new Bench().enable();
    bench.write('INTERRUPT_ENABLE', 1);
    bench.command('flushDomain', {});
    expect(bench.line.asserted).toBe(true);
    bench.unit.reset();
    expect(bench.line.asserted).toBe(false);
  });

  it('while a probe is due answers it never', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.write('PROBE_COMMAND', 0x80000001);
    bench.unit.reset();
    bench.jobs.run();
    expect(bench.operations.probes).toEqual([]);
  });

  it('while a probe walks leaves the registers alone', () => {
    const bench = new Bench();
    bench.operations.attached = true;
    bench.operations.probeAnswer = {
      ...bench.operations.probeAnswer,
      translated: true,
      fault: -1,
      frame: 5,
      domain: 3,
    };
    bench.operations.onProbe = () => bench.unit.reset();
    bench.write('PROBE_COMMAND', 0x80000001);
    bench.jobs.run();
    expect(bench.operations.probes).toHaveLength(1);
    expect([bench.read('PROBE_RESULT'), bench.read('PROBE_DOMAIN')]).toEqual([0, 0]);
  });
});

describe('disabling the rings', () => {
  it('keeps the unit, its domains and the translation', () => {
    const bench = new Bench().enable();
    bench.write('CONTROL', 3);
    bench.write('CONTROL', 2);
    expect(bench.operations.resets).toBe(0);
    expect(bench.translation.enabled).toBe(true);
    expect(bench.read('STATUS')).toBe(2);
  });

  it('calls off commands that wait', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    bench.write('CONTROL', 0);
    bench.jobs.run();
    expect(bench.operations.calls).toEqual([]);
  });

  it('loses an answer that could not be written, and says so', () => {
    const bench = new Bench();
    bench.memory.protect(Frame.completions, 1, { readable: true, writable: false });
    bench.enable();
    bench.put(flush(7)).doorbell();
    bench.jobs.run();
    bench.write('CONTROL', 0);
    expect(bench.trace.events.find(event => event.kind === 'dmaIommu.completionLost')?.detail).toEqual({ cookie: 7n });
    bench.memory.protect(Frame.completions, 1, { readable: true, writable: true });
    bench.write('STATUS', 1 << 9);
    bench.enable();
    expect(bench.command('flushDomain', { domain: 8 }, { cookie: 8n }).cookie).toBe(8n);
  });

  it('while the answer is written ends the command', () => {
    const bench = new Bench().enable();
    bench.put(flush(1)).doorbell();
    bench.memory.during = writing => {
      if (writing) bench.write('CONTROL', 0);
    };
    bench.jobs.run();
    expect(bench.read('STATUS')).toBe(0);
    expect(bench.completion(0).phase).toBe(0);
  });

  it('keeps faults and state changes coming once the rings are enabled again', () => {
    const bench = new Bench().enable();
    bench.command('setDeviceFaultReporting', { enable: 1, hasConfig: 1, context: 1 });
    const { faultHandler, faultContext } = bench.operations.calls[0]?.args.faultConfig ?? {};
    bench.command('registerInterfaceStateChangeCallback', { device: 4, stateFields: 1 });
    const { stateChangeCallback } = bench.operations.calls[1]?.args ?? {};
    bench.write('CONTROL', 0);
    stateChangeCallback({ presentFields: 1, availableDomainTypes: 5 }, 0n);
    bench.jobs.run();
    bench.enable();
    bench.jobs.run();
    expect(bench.take().map(one => one.kind)).toEqual([1]);
    faultHandler(faultContext, fault);
    bench.jobs.run();
    expect(bench.read('FAULT_TAIL')).toBe(1);
  });
});
