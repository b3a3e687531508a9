import { describe, expect, it } from 'vitest';
import { NtStatus } from '../../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import type { OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import type { CallbackEvent, OperationArguments, RemoteCommand } from '../../src/machine/operations-command.ts';
import { RemoteCommands } from '../../src/machine/remote-commands.ts';
import { NIC, R, Rig } from '../iommu/dma-iommu/support.ts';
import { sampleArguments } from './sample-arguments.ts';

function start() {
  const rig = new Rig();
  const events: CallbackEvent[] = [];
  const commands = new RemoteCommands(rig.unit, 'iommu', event => events.push(event));
  /** As it comes out of the worker: anything that cannot be cloned throws. */
  const ask = (command: RemoteCommand) => structuredClone(commands.answer(structuredClone(command)));
  const operate = <Name extends OperationName>(operation: Name, args: OperationArguments[Name]) =>
    ask({ name: 'operate', operation, args } as RemoteCommand) as Record<string, never> & { status: number };
  return { rig, events, ask, operate };
}

describe('RemoteCommands on a unit', () => {
  it('maps, and probes what the address translates to', () => {
    const { ask, operate } = start();
    const { domain } = operate('createDomain', { osManagedPageTable: true });
    operate('attachDevice', { domain: domain!, physicalDeviceObject: NIC, inputMappingIdBase: 0, mappingCount: 1 });
    const mdl = { type: 'mdl', pages: Int32Array.of(0x55), byteOffset: 0, byteCount: 4096 } as const;
    const logicalAddress = 0x1_2345_6000n;
    expect(operate('mapLogicalRange', { domain: domain!, permissions: R, mdl, logicalAddress }).status).toBe(0);
    const probe = { requesterId: NIC, logicalAddress: logicalAddress + 8n, access: R };
    expect(ask({ name: 'probe', args: probe })).toMatchObject({ translated: true, frame: 0x55, permissions: R });
    expect(ask({ name: 'probe', args: { ...probe, access: 2 } })).toMatchObject({ translated: false });
    expect(ask({ name: 'probe', args: { ...probe, pasid: 1 } })).toMatchObject({ translated: false });
    expect(ask({ name: 'snapshot' })).toMatchObject({ domains: [{ handle: domain, ranges: [{ logicalAddress }] }] });
  });

  it('tells a fault as an event, with the context', () => {
    const { rig, events, operate } = start();
    const { domain } = operate('createDomain', { osManagedPageTable: true });
    operate('attachDevice', { domain: domain!, physicalDeviceObject: NIC, inputMappingIdBase: 0, mappingCount: 1 });
    const answer = operate('setDeviceFaultReporting', {
      physicalDeviceObject: NIC,
      inputMappingIdBase: 0,
      enable: true,
      faultConfig: { faultContext: 'nic' },
    });
    expect(answer.status).toBe(0);
    rig.unit.translate(NIC, 0, 0x5000, R, rig.out);
    rig.jobs.run();
    expect(structuredClone(events)).toMatchObject([
      { kind: 'callback.fault', source: 'iommu', detail: { context: 'nic', fault: { requesterId: NIC, access: R } } },
    ]);
  });

  it('registers for changes, tells them at once, and unregisters', () => {
    const { events, operate } = start();
    const { dmaDevice } = operate('createDevice', { physicalDeviceObject: NIC });
    const args = { dmaDevice: dmaDevice!, stateFields: 1, context: 'c' };
    expect(operate('registerInterfaceStateChangeCallback', args).status).toBe(0);
    expect(events).toMatchObject([{ kind: 'callback.stateChange', detail: { context: 'c', dmaDevice } }]);
    expect(operate('registerInterfaceStateChangeCallback', args).status).toBe(NtStatus.UNSUCCESSFUL);
    expect(operate('unregisterInterfaceStateChangeCallback', { dmaDevice: dmaDevice! }).status).toBe(0);
    expect(operate('unregisterInterfaceStateChangeCallback', { dmaDevice: dmaDevice! }).status).toBe(
      NtStatus.UNSUCCESSFUL,
    );
  });

  it.each([
    [{ version: 1 }, { status: 0, version: 1, size: 0x70 }, 13],
    [{ version: 1, ex: true }, { status: 0, version: 1, size: 0x78 }, 13],
    [{ version: 2, ex: true }, { status: 0, version: 2, size: 0xc0 }, 22],
    [{ version: 3, ex: true }, { status: 0, version: 3, size: 0xe8 }, 27],
  ])('hands out the interface %o', (args, expected, count) => {
    const answer = start().ask({ name: 'interface', args }) as unknown as { operations: string[] };
    expect(answer).toMatchObject(expected);
    expect(answer.operations).toHaveLength(count);
  });

  it.each([
    [{ version: 2 }, NtStatus.INVALID_PARAMETER_1],
    [{ version: 4, ex: true }, NtStatus.INVALID_PARAMETER_1],
    [{ version: 1, ex: true, flags: 1n }, NtStatus.INVALID_PARAMETER_3],
  ])('refuses the interface (%#)', (args, status) => {
    expect(start().ask({ name: 'interface', args })).toEqual({ status });
  });

  it.each(operationNames)('answers %s with data that can be cloned', operation => {
    const { operate } = start();
    expect(operate(operation, sampleArguments[operation] as never).status).toBeTypeOf('number');
  });
});
