import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CompletionKind, completionLayout } from '../../src/iommu/dma-iommu/function/layout.ts';
import { operations } from '../../src/iommu/dma-iommu/opcodes.ts';
import { VfioUserError } from '../../src/vfio-user/client.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { COMPLETION_BYTES, decode } from '../iommu/dma-iommu/function/support.ts';
import { DmaIommuRig, Handle, Place, packr, pages, Reg } from './dma-iommu-migration-rig.ts';
import { bytes32, bytes64, PAGE } from './migration-rig.ts';

const EINVAL = 22;
const { error, stop, running, resuming } = MigrationState;

let rig: DmaIommuRig;

beforeEach(() => {
  rig = new DmaIommuRig();
  rig.setUp();
});

afterEach(() => {
  rig.close();
  expect(rig.errors).toEqual([]);
});

function refusals(): string[] {
  return rig.trace.events.filter(({ kind }) => kind === 'migration.refused').map(({ detail }) => String(detail.why));
}

/** Everything that a unit can have, and work that waits. */
function fill(): void {
  const { device, buddy, translate, token } = Handle;
  rig.ask('registerInterfaceStateChangeCallback', { device: device[0], callback: 77n, context: 5n, stateFields: 1 });
  rig.ask('createPasidDevice', { device: device[0] });
  rig.ask('attachPasidDevice', { domain: Handle.unmanaged, pasidDevice: 8 });
  rig.ask('mapReservedLogicalRange', { token, permissions: 1, offset: 0n, memory: pages(Place.shared, 2) });
  rig.ask('reserveLogicalAddressRange', { domain: buddy, present: 0, size: 0x3000n });
  rig.ask('createDomainEx', { domainType: 0 });
  rig.ask('unmapLogicalRange', {
    domain: translate,
    logicalAddress: BigInt(Place.data[0] + 3) << 12n,
    numberOfPages: 2,
  });
  rig.ring();
  rig.settle();
}

/** The function is stopped with work of every kind that can be arranged from outside. */
function stopBusy(): Uint8Array {
  rig.ask('createDomainEx', { domainType: 1 });
  rig.ring();
  rig.post('iommu', Reg.probeDevice, bytes32(0x0100));
  rig.post('iommu', Reg.probeIova, bytes64(BigInt(Place.data[0]) << 12n));
  rig.post('iommu', Reg.probeCommand, bytes32((1 << 31) | 1));
  return rig.save().iommu;
}

// biome-ignore lint/suspicious/noExplicitAny: a state, to be changed at will.
function changed(state: Uint8Array, change: (device: any) => void): Uint8Array {
  const whole = packr.unpack(state.subarray(8));
  change(whole.state.device);
  return Buffer.concat([state.subarray(0, 8), packr.pack(whole)]);
}

/** The error, or 0; in any case the function is stopped afterwards. */
function tryRestore(state: Uint8Array): number {
  const client = rig.migration('iommu');
  client.setState(resuming);
  client.writeAll(state);
  try {
    client.setState(stop);
    return 0;
  } catch (failure) {
    if (failure instanceof VfioUserError) return failure.errno;
    throw failure;
  }
}

describe('a dma-iommu', () => {
  it('goes on in another machine with the handles, tokens and PASIDs that the guest has', () => {
    fill();
    const before = rig.saved();
    const states = rig.save();
    rig.end();
    rig.start();
    rig.restore(states);
    expect(rig.saved()).toEqual(before);
    rig.ask('createPasidDevice', { device: Handle.device[0] });
    rig.ask('unmapReservedLogicalRange', { segment: 9 });
    rig.ring();
    rig.settle();
    const { objects, lastHandle, lastPasid } = rig.saved().unit;
    expect({ lastHandle, lastPasid }).toEqual({ lastHandle: 12, lastPasid: 2 });
    expect(objects.map((one: { handle: number }) => one.handle)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]);
  });

  it('goes on with the commands and the probe that waited', () => {
    fill();
    const state = stopBusy();
    expect(packr.unpack(state.subarray(8)).state.device.work).toEqual(['commands', 'probe']);
    const states = { ...rig.save(), iommu: state };
    rig.end();
    rig.start();
    rig.restore(states);
    rig.settle();
    expect(rig.saved().unit.lastHandle).toBe(12);
    expect(rig.read32('iommu', Reg.probeResult) & 1).toBe(1);
  });

  it('goes on with the answer and the state change that found the completion ring full', () => {
    rig.close();
    rig = new DmaIommuRig();
    rig.setUp(3);
    for (let n = 0; n < 6; n++) rig.ask('queryDeviceInfo', { device: Handle.device[0], size: 3 });
    rig.ask('registerInterfaceStateChangeCallback', {
      device: Handle.device[0],
      callback: 7n,
      context: 9n,
      stateFields: 1,
    });
    rig.ask('createDomainEx', { domainType: 1 });
    rig.ring();
    const full = () => (rig.read32('iommu', Reg.completionTail) + 1) % 8 === rig.read32('iommu', Reg.completionHead);
    for (let n = 0; n < 1000 && !full(); n++) rig.loop.runOnce(0);
    rig.machine.iommu!.operations!.unit.setDmaGuard(0x0100, true);
    const states = rig.save();
    const { completions, unit } = rig.saved();
    expect(completions.map((one: { device: number }) => one.device)).toEqual([-1, Handle.device[0]]);
    expect(unit.lastHandle).toBe(7);
    rig.end();
    rig.start();
    rig.restore(states);
    expect(rig.saved().completions).toEqual(completions);
    const first = rig.read32('iommu', Reg.completionTail);
    rig.settle();
    const entry = (n: number) => rig.memory().subarray(Place.completions * PAGE + ((first + n) % 8) * COMPLETION_BYTES);
    const { registerInterfaceStateChangeCallback: register, createDomainEx: create } = operations;
    const written = [0, 1, 2].map(n => decode(completionLayout, entry(n).subarray(0, COMPLETION_BYTES)));
    expect(written.map(({ kind, opcode }) => [kind, opcode])).toEqual([
      [CompletionKind.command, register.opcode],
      [CompletionKind.stateChange, register.opcode],
      [CompletionKind.command, create.opcode],
    ]);
    expect(rig.saved().unit.lastHandle).toBe(8);
  });

  it('leaves out the callbacks of others than the guest, and says so', () => {
    const { unit } = rig.machine.iommu!.operations!;
    const faultConfig = { faultHandler: () => {}, faultContext: 1n };
    unit.setDeviceFaultReporting({ physicalDeviceObject: 0x0100, inputMappingIdBase: 0, enable: true, faultConfig });
    const device = Handle.device[1] as never;
    unit.registerInterfaceStateChangeCallback({ stateChangeCallback: () => {}, dmaDevice: device, stateFields: 1 });
    rig.trace.events.length = 0;
    const saved = rig.saved();
    expect(saved.unit.attachments.map((one: { reports: unknown }) => one.reports)).toEqual([false, expect.anything()]);
    expect(saved.registrations).toEqual([]);
    const left = rig.trace.events.filter(({ kind }) => kind === 'dma-iommu.callbackNotSaved');
    expect(left.map(({ detail }) => detail.device)).toEqual([0x0200, 0x0100]);
  });

  it('is not saved, rather than cut, where its pages are scattered beyond what a state may have', () => {
    const { unit } = rig.machine.iommu!.operations!;
    const scattered = Int32Array.from({ length: 2 ** 20 }, (_, page) => page * 2);
    const { domain } = unit.createDomainEx({ domainType: 0 });
    const physicalAddressToMap = { type: 'pfnArray', pages: scattered } as const;
    const wish = { domain: domain!, permissions: 3, physicalAddressToMap, explicitLogicalAddress: 0n };
    expect(unit.mapLogicalRangeEx(wish).status).toBe(0);
    expect(() => rig.saved()).toThrow(/runs of page frames/);
    expect(unit.unmapLogicalRange({ domain: domain!, logicalAddress: 0n, numberOfPages: 2 ** 20 }).status).toBe(0);
    expect(rig.saved().unit.lastHandle).toBe(domain);
  });

  it('keeps what DMA Guard forbids, and those who were attached before', () => {
    const { unit } = rig.machine.iommu!.operations!;
    rig.ask('detachDeviceEx', { device: Handle.device[0] });
    rig.ask('attachDeviceEx', { domain: Handle.passThrough, device: Handle.device[0] });
    rig.ring();
    rig.settle();
    unit.setDmaGuard(0x0100, true);
    const states = rig.save();
    rig.end();
    rig.start();
    rig.restore(states);
    const restored = rig.machine.iommu!.operations!.unit.snapshot();
    expect(restored.guarded).toEqual([0x0100]);
    expect(restored.attachments.map(one => one.domain)).toEqual([Handle.buddy, Handle.passThrough]);
  });
});

describe('a state of a dma-iommu that was tampered with', () => {
  // biome-ignore lint/suspicious/noExplicitAny: a state, to be changed at will.
  const domain = (device: any, handle: number) =>
    device.unit.objects.find((one: { handle: number }) => one.handle === handle);

  // biome-ignore lint/suspicious/noExplicitAny: a state, to be changed at will.
  it.each<[string, (device: any) => void, RegExp]>([
    ['two objects with one handle', d => (domain(d, 3).handle = 4), /two objects have the handle 4/],
    ['a handle beyond all', d => (domain(d, 3).handle = 2 ** 31), /a handle is not a whole number/],
    ['an object of no kind', d => (domain(d, 3).what = 'door'), /none that there is/],
    ['a type that there is not', d => (domain(d, 3).type = 4), /the type of domain 3/],
    ['a PassThrough domain with an allocator', d => (domain(d, 3).allocator = 5), /its type has none/],
    ['a PassThrough domain with ranges', d => (domain(d, 3).ranges = [0, 1, 0, 3]), /its type has no tables of ours/],
    [
      'a configuration of a Translate domain',
      d => (domain(d, 1).configuration = domain(d, 4).configuration),
      /cannot be configured/,
    ],
    ['tables beyond memory', d => domain(d, 4).configuration.firstLevelPageTableRoot.fill(255), /cannot be configured/],
    ['ranges that overlap', d => (domain(d, 1).ranges[4] = domain(d, 1).ranges[0]), /overlap/],
    ['a range beyond the address space', d => (domain(d, 1).ranges[0] = 2 ** 36), /the start of a range/],
    ['half a range', d => domain(d, 1).ranges.pop(), /not whole/],
    ['permissions that there are not', d => (domain(d, 1).ranges[3] = 4), /the permissions of a range/],
    ['frames that are missing', d => domain(d, 1).runs.pop(), /a number of page frames/],
    ['frames too many', d => domain(d, 1).runs.push(1, 1), /nothing is mapped to/],
    ['a frame that no page has', d => (domain(d, 1).runs[0] = -1), /a page frame of domain 1/],
    [
      'an identity mapping that is none',
      d => {
        domain(d, 1).ranges[2] = 1;
        domain(d, 1).runs[0] = 1;
      },
      /leads elsewhere/,
    ],
    ['a block that is not free', d => (domain(d, 10).start = 1), /cannot have given/],
    ['a token of nothing', d => (domain(d, 7).domain = 12), /belongs to nothing/],
    ['a token without a place', d => (domain(d, 7).start = domain(d, 1).ranges[0]), /has no place/],
    ['a segment beyond its token', d => (domain(d, 9).pages = 5), /segment 9/],
    ['a DMA device of a stranger', d => (domain(d, 6).pdo = 0x0900), /cannot be made/],
    ['two DMA devices of one', d => (domain(d, 6).pdo = 0x0100), /cannot be made/],
    ['a DMA device with more ids', d => (domain(d, 6).count = 2), /ids that it cannot have/],
    ['a PASID device of a device without', d => (domain(d, 8).device = 6), /cannot be made/],
    ['a PASID beyond all', d => (domain(d, 8).pasid = 2 ** 20), /PASID device 8/],
    ['an attachment to nothing', d => (d.unit.attachments[0].domain = 5), /has no domain/],
    ['an attachment twice', d => d.unit.attachments.push(d.unit.attachments[0]), /not that of its DMA device/],
    ['other devices', d => d.unit.directory.push(0x0300), /other devices/],
    ['a registration of no device', d => (d.registrations[0].device = 7), /to be watched/],
    ['a registration twice', d => d.registrations.push(d.registrations[0]), /to be watched/],
    ['a ring that cannot be there', d => (d.registers[Reg.commandBase + 8] = 17), /where it cannot be/],
    ['a head beyond the ring', d => (d.registers[Reg.commandHead] = 200), /the head of the command ring/],
    ['a phase of neither lap', d => (d.rings[1].phase = 2), /the completion ring/],
    ['rings that are not enabled', d => (d.registers[Reg.control] = 2), /where it cannot be/],
    ['STATUS beside CONTROL', d => (d.registers[Reg.control] = 1), /do not say the same/],
    ['READY without rings', d => (d.rings[0].placed = false), /head of the command ring|READY/],
    ['work that there is not', d => d.work.push('deliver'), /does not say the same twice/],
    ['a probe without its work', d => d.work.pop(), /does not say the same twice/],
    [
      'a fault that leads to no attachment',
      d => d.unit.faults.push({ attachment: 7, suppressed: false, fault: {} }),
      /a fault that waits/,
    ],
    [
      'a completion for nobody',
      d => d.completions.push({ entry: new Uint8Array(1), interrupt: true, device: 6 }),
      /registration that there is not/,
    ],
    ['a member too many', d => (d.unit.more = 1), /must have the members/],
  ])('%s: is refused', (_what, change, why) => {
    fill();
    const state = stopBusy();
    const before = rig.saved();
    expect(tryRestore(changed(state, change))).toBe(EINVAL);
    expect(refusals()).toEqual([expect.stringMatching(why)]);
    expect(rig.saved()).toEqual(before);
    expect(rig.migration('iommu').state()).toBe(error);
  });

  it('is taken over whole or not at all, whatever it is', () => {
    fill();
    const good = stopBusy();
    let taken = 0;
    const value = fc.oneof(fc.integer({ min: -2, max: 40 }), fc.boolean(), fc.anything({ maxDepth: 1 }));
    fc.assert(
      fc.property(fc.array(fc.nat(30), { minLength: 1, maxLength: 5 }), value, (path, given) => {
        const client = rig.migration('iommu');
        const state = changed(good, device => put(device, path, given));
        if (client.state() === error) rig.clients.iommu.reset();
        client.setState(stop);
        expect(tryRestore(good)).toBe(0);
        const before = rig.saved();
        if (tryRestore(state) !== 0) {
          expect(rig.saved()).toEqual(before);
          rig.clients.iommu.reset();
          return;
        }
        taken++;
        // It lives with what it took: it saves the same, runs, and takes the good one.
        expect(tryRestore(rig.migrationState())).toBe(0);
        client.setState(running);
        for (let n = 0; n < 20; n++) rig.read32('iommu', Reg.status);
      }),
      { numRuns: 250 },
    );
    expect(taken).toBeGreaterThan(5);
    expect(refusals().length).toBeGreaterThan(100);
  });

  function put(state: object, path: readonly number[], value: unknown): void {
    // biome-ignore lint/suspicious/noExplicitAny: a state, to be changed at will.
    let at: any = state;
    for (const [depth, step] of path.entries()) {
      const names = Object.keys(at);
      const key = names[step % names.length]!;
      const inner = at[key];
      const leads = typeof inner === 'object' && inner !== null && !ArrayBuffer.isView(inner);
      if (depth + 1 < path.length && leads && Object.keys(inner).length > 0) {
        at = inner;
        continue;
      }
      at[key] = storable(value) ? value : 'other';
      return;
    }
  }

  function storable(value: unknown): boolean {
    try {
      packr.pack(value);
      return true;
    } catch {
      // Not everything has a place in MessagePack.
      return false;
    }
  }
});
