/**
 * Runs operation commands on the device thread: gives the operations the functions that a command cannot carry, and turns their
 * calls into events.
 */
import type { Answer, DmaIommuOperations, OperationName } from '../iommu/dma-iommu/operations.ts';
import type { DeviceFaultConfiguration, DeviceHandle, InterfaceStateChangeCallback } from '../iommu/dma-iommu/types.ts';
import {
  type CallbackContext,
  type CallbackEvent,
  FAULT_EVENT,
  type OperateCommand,
  type OperationAnswer,
  type OperationArguments,
  type RemoteFaultConfiguration,
  STATE_CHANGE_EVENT,
} from './operations-command.ts';

type StateChangeArguments = OperationArguments['registerInterfaceStateChangeCallback'];

/** Stands for a callback that nobody registered, so that the operation itself answers. */
const notRegistered: InterfaceStateChangeCallback = () => {};

export class OperationCalls {
  /** What was registered, because unregistering names the function. */
  private readonly callbacks = new Map<DeviceHandle, InterfaceStateChangeCallback>();

  /** `source` is the unit's name; `emit` is called within an operation or a job, and must not throw. */
  constructor(
    private readonly operations: DmaIommuOperations,
    private readonly source: string,
    private readonly emit: (event: CallbackEvent) => void,
  ) {}

  run<Name extends OperationName>({
    operation,
    args,
  }: Pick<OperateCommand<Name>, 'operation' | 'args'>): OperationAnswer<Name> {
    return this.answer(operation, args) as OperationAnswer<Name>;
  }

  private answer(operation: OperationName, args: OperationArguments[OperationName]): Answer {
    switch (operation) {
      case 'setDeviceFaultReporting':
      case 'setDeviceFaultReportingEx': {
        const given = args as OperationArguments['setDeviceFaultReporting' | 'setDeviceFaultReportingEx'];
        return this.call(operation, { ...given, faultConfig: this.faultConfiguration(given.faultConfig) });
      }
      case 'registerInterfaceStateChangeCallback':
        return this.register(args as StateChangeArguments);
      case 'unregisterInterfaceStateChangeCallback':
        return this.unregister((args as { dmaDevice: DeviceHandle }).dmaDevice);
      case 'deleteDevice': {
        const answer = this.call(operation, args);
        if (answer.status === 0) this.callbacks.delete((args as { dmaDevice: DeviceHandle }).dmaDevice);
        return answer;
      }
      default:
        return this.call(operation, args);
    }
  }

  private call(operation: OperationName, args: object): Answer {
    return (this.operations[operation] as (args: object) => Answer).call(this.operations, args);
  }

  private faultConfiguration(config: RemoteFaultConfiguration | undefined): DeviceFaultConfiguration | undefined {
    if (config === undefined) return undefined;
    return {
      faultContext: config.faultContext,
      faultHandler: (context, fault) =>
        this.emit({
          kind: FAULT_EVENT,
          source: this.source,
          detail: { context: context as CallbackContext | undefined, fault },
        }),
    };
  }

  private register({ dmaDevice, stateFields, context }: StateChangeArguments): Answer {
    const stateChangeCallback: InterfaceStateChangeCallback = (change, given) =>
      this.emit({
        kind: STATE_CHANGE_EVENT,
        source: this.source,
        detail: { context: given as CallbackContext | undefined, dmaDevice, change },
      });
    const answer = this.operations.registerInterfaceStateChangeCallback({
      stateChangeCallback,
      context,
      dmaDevice,
      stateFields,
    });
    if (answer.status === 0) this.callbacks.set(dmaDevice, stateChangeCallback);
    return answer;
  }

  private unregister(dmaDevice: DeviceHandle): Answer {
    const stateChangeCallback = this.callbacks.get(dmaDevice) ?? notRegistered;
    const answer = this.operations.unregisterInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice });
    if (answer.status === 0) this.callbacks.delete(dmaDevice);
    return answer;
  }
}
