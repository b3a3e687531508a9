import { describe, expect, it } from 'vitest';
import { completionLayout, stateChangeLayout } from '../../../../src/iommu/dma-iommu/function/layout.ts';
import { FAULTS_PENDING_MAX } from '../../../../src/iommu/dma-iommu/function/limits.ts';
import { RingError } from '../../../../src/iommu/dma-iommu/function/registers.ts';
import { NtStatus } from '../../../../src/iommu/dma-iommu/ntstatus.ts';
import {
  type DeviceFaultHandler,
  type FaultInformation,
  FaultInformationArch,
  type InterfaceStateChangeCallback,
} from '../../../../src/iommu/dma-iommu/types.ts';
import { Bench, decode, encodeCommand, Frame } from './support.ts';

const x64 = (faultAddress: bigint, requesterId = 0x0102): FaultInformation => ({
  type: FaultInformationArch.X64,
  isStage1: true,
  requesterId,
  access: 2,
  pasid: -1,
  x64: {
    domainHandle: 9,
    faultAddress,
    flags: { faultAddressValid: true },
    type: 6,
    iommuBaseAddress: 0xfeb00000n,
    pciSegment: 3,
  },
});

const arm64: FaultInformation = {
  type: FaultInformationArch.Arm64,
  isStage1: false,
  requesterId: 0x0102,
  access: 1,
  pasid: 77,
  arm64: {
    domainHandle: 0,
    faultAddress: 0xffff000012345678n,
    physicalDeviceObject: 0x0200,
    inputMappingId: 8,
    flags: { writeNotRead: true, instructionNotData: true, privileged: true, faultAddressValid: true },
    type: 4,
    iommuBaseAddress: 0x1000n,
  },
};

/** A bench whose guest wants the faults of a device, and what the unit reports them with. */
function reporting(size = 3) {
  const bench = new Bench().enable({ fault: size });
  bench.command('setDeviceFaultReporting', { pdo: 1, enable: 1, hasConfig: 1, context: 0xabcdef0123456789n });
  const { faultHandler, faultContext } = bench.operations.calls[0]?.args.faultConfig ?? {};
  const report = (fault: FaultInformation) => (faultHandler as DeviceFaultHandler)(faultContext, fault);
  return { bench, report };
}

describe('a fault', () => {
  it('of x64 tables goes to the fault ring', () => {
    const { bench, report } = reporting();
    report(x64(0xffff812345678000n));
    expect(bench.read('FAULT_TAIL')).toBe(0);
    bench.jobs.run();
    expect(bench.read('FAULT_TAIL')).toBe(1);
    expect(bench.fault(0)).toEqual({
      phase: 1,
      arch: 2,
      isStage1: 1,
      access: 2,
      requesterId: 0x0102,
      context: 0xabcdef0123456789n,
      faultAddress: 0xffff812345678000n,
      iommuBaseAddress: 0xfeb00000n,
      domain: 9,
      type: 6,
      flags: 1,
      pasid: 0xffffffff,
      pdo: 0,
      inputMappingId: 0,
      pciSegment: 3,
      sequence: 0,
    });
  });

  it('of ARM64 tables has its own fields', () => {
    const { bench, report } = reporting();
    report(arm64);
    bench.jobs.run();
    expect(bench.fault(0)).toMatchObject({
      arch: 1,
      isStage1: 0,
      pasid: 77,
      pdo: 0x0200,
      inputMappingId: 8,
      flags: 15,
      pciSegment: 0,
    });
  });

  it.each([
    ['writeNotRead', 1],
    ['instructionNotData', 2],
    ['privileged', 4],
    ['faultAddressValid', 8],
  ])('has the flag %s in its bit', (flag, bit) => {
    const { bench, report } = reporting();
    if (arm64.type !== FaultInformationArch.Arm64) throw new Error('not the form that this is about');
    const none = { writeNotRead: false, instructionNotData: false, privileged: false, faultAddressValid: false };
    report({ ...arm64, arm64: { ...arm64.arm64, flags: { ...none, [flag]: true } } });
    bench.jobs.run();
    expect(bench.fault(0).flags).toBe(bit);
  });

  it('raises the fault interrupt once until software looks', () => {
    const { bench, report } = reporting();
    bench.write('INTERRUPT_ENABLE', 2);
    report(x64(0n));
    report(x64(1n));
    bench.jobs.run();
    expect(bench.line.raised).toEqual([1]);
    bench.write('INTERRUPT_PENDING', 2);
    report(x64(2n));
    bench.jobs.run();
    expect(bench.line.raised).toEqual([1, 1]);
  });

  it('comes in order, and over laps with another phase', () => {
    const { bench, report } = reporting(1);
    const seen: unknown[] = [];
    for (let i = 0; i < 5; i++) {
      report(x64(BigInt(i)));
      bench.jobs.run();
      const { faultAddress, phase } = bench.fault(i % 2);
      seen.push([faultAddress, phase]);
      bench.write('FAULT_HEAD', (i + 1) % 2);
    }
    expect(seen).toEqual([
      [0n, 1],
      [1n, 1],
      [2n, 0],
      [3n, 0],
      [4n, 1],
    ]);
  });

  it('is lost and counted where the ring is full; the sequence shows the gap', () => {
    const { bench, report } = reporting(1);
    for (let i = 0; i < 4; i++) report(x64(BigInt(i)));
    bench.jobs.run();
    expect(bench.read('FAULT_OVERFLOW')).toBe(3);
    expect(bench.trace.kinds().filter(kind => kind === 'dmaIommu.faultLost')).toHaveLength(1);
    bench.write('FAULT_HEAD', 1);
    report(x64(9n));
    bench.jobs.run();
    expect(bench.fault(1)).toMatchObject({ faultAddress: 9n, sequence: 4 });
  });

  it('is lost and counted where too many wait', () => {
    const { bench, report } = reporting(10);
    for (let i = 0; i < FAULTS_PENDING_MAX + 5; i++) report(x64(BigInt(i)));
    expect(bench.read('FAULT_OVERFLOW')).toBe(5);
    bench.jobs.run();
    expect(bench.read('FAULT_TAIL')).toBe(FAULTS_PENDING_MAX);
  });

  it('is lost and counted where there is no ring', () => {
    const { bench, report } = reporting(0);
    report(x64(0n));
    bench.jobs.run();
    expect([bench.read('FAULT_OVERFLOW'), bench.read('FAULT_TAIL')]).toEqual([1, 0]);
  });

  it('is lost and counted while the rings are disabled', () => {
    const { bench, report } = reporting();
    bench.write('CONTROL', 0);
    report(x64(0n));
    bench.jobs.run();
    expect(bench.read('FAULT_OVERFLOW')).toBe(1);
  });

  it('that waits when the rings are disabled is lost and counted', () => {
    const { bench, report } = reporting();
    report(x64(0n));
    report(x64(1n));
    bench.write('CONTROL', 0);
    bench.jobs.run();
    expect([bench.read('FAULT_OVERFLOW'), bench.read('FAULT_TAIL')]).toEqual([2, 0]);
  });

  it('stops the fault ring, and only it, where it cannot be written', () => {
    const { bench, report } = reporting();
    bench.memory.protect(Frame.faults, 1, { readable: true, writable: false });
    report(x64(0n));
    report(x64(1n));
    bench.jobs.run();
    expect(bench.read('STATUS')).toBe(1 | (1 << 10));
    expect(bench.read('ERROR')).toBe(RingError.memory << 16);
    expect(bench.read('FAULT_OVERFLOW')).toBe(2);
    expect(bench.command('flushDomain', {}).status).toBe(0);
    bench.memory.protect(Frame.faults, 1, { readable: true, writable: true });
    bench.write('STATUS', 1 << 10);
    report(x64(2n));
    bench.jobs.run();
    expect(bench.fault(0)).toMatchObject({ faultAddress: 2n, sequence: 2 });
  });

  it('ring takes no head beyond its tail', () => {
    const { bench, report } = reporting();
    report(x64(0n));
    bench.jobs.run();
    bench.write('FAULT_HEAD', 2);
    expect([bench.read('ERROR'), bench.read('FAULT_HEAD')]).toEqual([RingError.index << 16, 0]);
  });

  it('that comes while another is written is not forgotten', () => {
    const { bench, report } = reporting();
    let once = true;
    bench.memory.during = () => {
      if (once) report(x64(5n));
      once = false;
    };
    report(x64(4n));
    bench.jobs.run();
    expect([bench.fault(0).faultAddress, bench.fault(1).faultAddress]).toEqual([4n, 5n]);
  });
});

const changeOf = (completion: { bytes: Uint8Array }) =>
  decode(stateChangeLayout, completion.bytes, completionLayout.fields.result.offset);

/** Registers a callback for a device with a fake unit that calls back at once, as the documentation has it. */
function registered(completion = 3) {
  const bench = new Bench().enable({ completion });
  let callback: InterfaceStateChangeCallback = () => {};
  bench.operations.onCall = (name, args) => {
    if (name !== 'registerInterfaceStateChangeCallback') return;
    callback = args.stateChangeCallback;
    callback({ presentFields: 1, availableDomainTypes: 15 }, args.context);
  };
  const values = { device: 6, stateFields: 1, callback: 0x1111222233334444n, context: 0x5555n };
  bench.put(encodeCommand('registerInterfaceStateChangeCallback', values, { cookie: 1n })).doorbell();
  bench.jobs.run();
  bench.operations.onCall = () => {};
  const change = (availableDomainTypes: number) => callback({ presentFields: 1, availableDomainTypes }, 0x5555n);
  return { bench, change, values };
}

describe('a state change', () => {
  it('comes before the answer to its registration', () => {
    const { bench } = registered();
    const taken = bench.take();
    expect(taken.map(one => [one.kind, one.cookie])).toEqual([
      [1, 0x5555n],
      [0, 1n],
    ]);
    expect(taken[0]).toMatchObject({ opcode: 0x2f, status: 0, phase: 1 });
    expect(changeOf(taken[0]!)).toEqual({
      callback: 0x1111222233334444n,
      device: 6,
      presentFields: 1,
      availableDomainTypes: 15,
    });
  });

  it('has its own interrupt', () => {
    const { bench, change } = registered();
    bench.take();
    bench.write('INTERRUPT_PENDING', 15);
    bench.write('INTERRUPT_ENABLE', 15);
    change(13);
    bench.jobs.run();
    expect(bench.line.raised).toEqual([2]);
    expect(changeOf(bench.take()[0]!).availableDomainTypes).toBe(13);
  });

  it('fits the smallest ring', () => {
    const { bench } = registered(1);
    expect(bench.take().map(one => one.kind)).toEqual([1]);
    bench.jobs.run();
    expect(bench.take().map(one => one.kind)).toEqual([0]);
  });

  it('becomes one with an earlier one that still waits', () => {
    const { bench, change } = registered(1);
    change(1);
    change(2);
    change(3);
    bench.take();
    bench.jobs.run();
    bench.take();
    bench.jobs.run();
    expect(changeOf(bench.take()[0]!).availableDomainTypes).toBe(3);
    bench.jobs.run();
    expect(bench.take()).toEqual([]);
  });

  it('that comes while an earlier one is written follows it', () => {
    const { bench, change } = registered();
    bench.take();
    let once = true;
    bench.memory.during = writing => {
      if (writing && once) {
        once = false;
        change(2);
      }
    };
    change(1);
    bench.jobs.run();
    expect(bench.take().map(one => changeOf(one).availableDomainTypes)).toEqual([1, 2]);
  });

  it('is not told after unregistering', () => {
    const { bench, change, values } = registered(1);
    bench.take();
    bench.jobs.run();
    bench.take();
    bench.jobs.run();
    change(1);
    const { device, callback } = values;
    bench.put(encodeCommand('unregisterInterfaceStateChangeCallback', { device, callback }, { cookie: 2n })).doorbell();
    bench.jobs.run();
    // The change was written before the command was looked at.
    expect(bench.take().map(one => one.kind)).toEqual([1]);
    bench.jobs.run();
    expect(bench.take().map(one => [one.kind, one.cookie])).toEqual([[0, 2n]]);
  });

  it('of a device that was deleted in the meantime is not told', () => {
    const { bench, change } = registered();
    bench.take();
    bench.operations.onCall = name => {
      if (name === 'deleteDevice') change(1);
    };
    bench.put(encodeCommand('deleteDevice', { device: 6 })).doorbell();
    bench.jobs.run();
    expect(bench.take().map(one => one.kind)).toEqual([0]);
  });

  it('of a registration that fails is not told', () => {
    const bench = new Bench().enable();
    bench.operations.answers.set('registerInterfaceStateChangeCallback', { status: NtStatus.UNSUCCESSFUL });
    bench.operations.onCall = (_name, args) =>
      args.stateChangeCallback({ presentFields: 1, availableDomainTypes: 1 }, 0n);
    const completion = bench.command('registerInterfaceStateChangeCallback', { device: 6, stateFields: 1 });
    expect(completion).toMatchObject({ kind: 0, status: NtStatus.UNSUCCESSFUL });
  });
});

describe('unregistering', () => {
  it('names the function that was registered for that device and callback', () => {
    const { bench, values } = registered();
    bench.take();
    const { device, callback } = values;
    bench.command('unregisterInterfaceStateChangeCallback', { device, callback });
    const [registration, removal] = bench.operations.calls;
    expect(removal?.args.stateChangeCallback).toBe(registration?.args.stateChangeCallback);
  });

  it('of another callback names another function', () => {
    const { bench, values } = registered();
    bench.take();
    bench.command('unregisterInterfaceStateChangeCallback', { device: values.device, callback: 1n });
    const [registration, removal] = bench.operations.calls;
    expect(removal?.args.stateChangeCallback).not.toBe(registration?.args.stateChangeCallback);
  });

  it('that fails keeps the registration', () => {
    const { bench, values } = registered();
    bench.take();
    const { device, callback } = values;
    bench.operations.answers.set('unregisterInterfaceStateChangeCallback', { status: NtStatus.UNSUCCESSFUL });
    bench.command('unregisterInterfaceStateChangeCallback', { device, callback });
    bench.command('unregisterInterfaceStateChangeCallback', { device, callback });
    const functions = bench.operations.calls.map(call => call.args.stateChangeCallback);
    expect(new Set(functions).size).toBe(1);
  });
});
