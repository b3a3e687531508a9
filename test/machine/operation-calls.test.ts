import { describe, expect, it } from 'vitest';
import { NtStatus } from '../../src/iommu/dma-iommu/ntstatus.ts';
import { operationNames } from '../../src/iommu/dma-iommu/opcodes.ts';
import type { DmaIommuOperations, OperationName } from '../../src/iommu/dma-iommu/operations.ts';
import type { DeviceHandle, FaultInformation } from '../../src/iommu/dma-iommu/types.ts';
import { OperationCalls } from '../../src/machine/operation-calls.ts';
import type { CallbackEvent } from '../../src/machine/operations-command.ts';
import { sampleArguments } from './sample-arguments.ts';

/** Records every call, and answers with what it is told to. */
class Recorder {
  readonly calls: { readonly operation: string; readonly args: Record<string, unknown> }[] = [];
  status: number = NtStatus.SUCCESS;
  readonly operations = Object.fromEntries(
    operationNames.map(operation => [
      operation,
      (args: Record<string, unknown>) => {
        this.calls.push({ operation, args });
        return { status: this.status };
      },
    ]),
  ) as unknown as DmaIommuOperations;
  readonly events: CallbackEvent[] = [];
  readonly subject = new OperationCalls(this.operations, 'unit', event => this.events.push(event));

  run(operation: OperationName, args: object = sampleArguments[operation]): number {
    return this.subject.run({ operation, args: args as never }).status;
  }

  get last(): Record<string, unknown> {
    return this.calls.at(-1)!.args;
  }
}

const device = 2 as DeviceHandle;
const fault = { isStage1: false, requesterId: 0x100, access: 1, pasid: -1 } as FaultInformation;
const WITH_CALLBACKS = operationNames.filter(name => /FaultReporting|StateChange/.test(name));

describe('OperationCalls', () => {
  it.each(operationNames.filter(name => !WITH_CALLBACKS.includes(name)))('passes %s through', operation => {
    const recorder = new Recorder();
    recorder.status = NtStatus.NOT_FOUND;
    expect(recorder.run(operation)).toBe(NtStatus.NOT_FOUND);
    expect(recorder.calls).toEqual([{ operation, args: sampleArguments[operation] }]);
  });

  it.each(['setDeviceFaultReporting', 'setDeviceFaultReportingEx'] as const)(
    'makes %s tell faults as events',
    operation => {
      const recorder = new Recorder();
      recorder.run(operation, { ...sampleArguments[operation], faultConfig: { faultContext: 'mine' } });
      const { faultHandler, faultContext } = recorder.last.faultConfig as {
        faultHandler: (context: unknown, fault: FaultInformation) => void;
        faultContext: unknown;
      };
      faultHandler(faultContext, fault);
      expect(recorder.events).toEqual([{ kind: 'callback.fault', source: 'unit', detail: { context: 'mine', fault } }]);
    },
  );

  it('leaves out what was not given to enable fault reporting, so that the operation refuses it', () => {
    const recorder = new Recorder();
    recorder.run('setDeviceFaultReporting', { physicalDeviceObject: 1, inputMappingIdBase: 0, enable: true });
    expect(recorder.last.faultConfig).toBeUndefined();
  });

  it('tells changes as events', () => {
    const recorder = new Recorder();
    recorder.run('registerInterfaceStateChangeCallback', { dmaDevice: device, stateFields: 1, context: 5 });
    const change = { presentFields: 1, availableDomainTypes: 5 };
    (recorder.last.stateChangeCallback as (change: object, context: unknown) => void)(change, recorder.last.context);
    expect(recorder.events).toEqual([
      { kind: 'callback.stateChange', source: 'unit', detail: { context: 5, dmaDevice: device, change } },
    ]);
  });

  it('unregisters the function that it registered, of each device', () => {
    const recorder = new Recorder();
    const other = 3 as DeviceHandle;
    const registered = [device, other].map(dmaDevice => {
      recorder.run('registerInterfaceStateChangeCallback', { dmaDevice, stateFields: 1 });
      return recorder.last.stateChangeCallback;
    });
    recorder.run('unregisterInterfaceStateChangeCallback', { dmaDevice: other });
    expect(recorder.last).toEqual({ stateChangeCallback: registered[1], dmaDevice: other });
    recorder.run('unregisterInterfaceStateChangeCallback', { dmaDevice: device });
    expect(recorder.last).toEqual({ stateChangeCallback: registered[0], dmaDevice: device });
  });

  it('keeps the first function where a second registration is refused', () => {
    const recorder = new Recorder();
    recorder.run('registerInterfaceStateChangeCallback');
    const first = recorder.last.stateChangeCallback;
    recorder.status = NtStatus.UNSUCCESSFUL;
    recorder.run('registerInterfaceStateChangeCallback');
    recorder.run('unregisterInterfaceStateChangeCallback');
    expect(recorder.last.stateChangeCallback).toBe(first);
  });

  it.each(['unregisterInterfaceStateChangeCallback', 'deleteDevice'] as const)(
    'forgets the function after %s',
    operation => {
      const recorder = new Recorder();
      recorder.run('registerInterfaceStateChangeCallback');
      const first = recorder.last.stateChangeCallback;
      recorder.run(operation, { dmaDevice: device });
      recorder.run('unregisterInterfaceStateChangeCallback', { dmaDevice: device });
      expect(recorder.last.stateChangeCallback).not.toBe(first);
    },
  );
});
