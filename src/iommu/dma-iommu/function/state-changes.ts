/**
 * Callbacks that the guest registered. It cannot pass a function, so it passes a number in its place: the changes go to the completion
 * ring with that number and the guest's context.
 */

import { NtStatus } from '../ntstatus.ts';
import { operations } from '../opcodes.ts';
import type { DmaIommuOperations } from '../operations.ts';
import type { DeviceHandle, InterfaceStateChange, InterfaceStateChangeCallback } from '../types.ts';
import type { StateChangeAddress } from './completions.ts';

interface Registration {
  readonly callback: bigint;
  readonly stateChangeCallback: InterfaceStateChangeCallback;
  readonly key: object;
}

const { opcode } = operations.registerInterfaceStateChangeCallback;

/** Given to the unit for a callback that the guest has not registered, which no registration is made with. */
const unknownCallback: InterfaceStateChangeCallback = () => {};

export interface StateChangeSink {
  stateChanged(registration: object, about: StateChangeAddress, change: InterfaceStateChange): void;
  forget(registration: object): void;
}

export class StateChanges {
  /** One for each device that has one, as in the unit. */
  private readonly registrations = new Map<DeviceHandle, Registration>();
  private life = 0;

  /** `wake` is told when there is something to write. */
  constructor(
    private readonly operations: DmaIommuOperations,
    private readonly sink: StateChangeSink,
    private readonly wake: () => void,
  ) {}

  register(dmaDevice: DeviceHandle, stateFields: number, callback: bigint, context: bigint): number {
    const { life } = this;
    const key = {};
    const about = { opcode, device: dmaDevice, callback, context };
    const stateChangeCallback: InterfaceStateChangeCallback = change => {
      if (life !== this.life) return;
      this.sink.stateChanged(key, about, change);
      this.wake();
    };
    const { status } = this.operations.registerInterfaceStateChangeCallback({
      stateChangeCallback,
      context,
      dmaDevice,
      stateFields,
    });
    if (status === NtStatus.SUCCESS) this.registrations.set(dmaDevice, { callback, stateChangeCallback, key });
    else this.sink.forget(key);
    return status;
  }

  unregister(dmaDevice: DeviceHandle, callback: bigint): number {
    const present = this.registrations.get(dmaDevice);
    const known = present !== undefined && present.callback === callback ? present : undefined;
    const stateChangeCallback = known?.stateChangeCallback ?? unknownCallback;
    const { status } = this.operations.unregisterInterfaceStateChangeCallback({ stateChangeCallback, dmaDevice });
    if (status === NtStatus.SUCCESS && known !== undefined) this.drop(dmaDevice, known);
    return status;
  }

  /** The device is gone, and its registration with it. */
  deviceDeleted(dmaDevice: DeviceHandle): void {
    const present = this.registrations.get(dmaDevice);
    if (present !== undefined) this.drop(dmaDevice, present);
  }

  reset(): void {
    this.life++;
    this.registrations.clear();
  }

  private drop(dmaDevice: DeviceHandle, { key }: Registration): void {
    this.registrations.delete(dmaDevice);
    this.sink.forget(key);
  }
}
