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
  readonly context: bigint;
  readonly stateChangeCallback: InterfaceStateChangeCallback;
  readonly key: object;
}

const { opcode } = operations.registerInterfaceStateChangeCallback;

/** Given to the unit for a callback that the guest has not registered, which no registration is made with. */
const unknownCallback: InterfaceStateChangeCallback = () => {};

export interface Registered {
  readonly device: DeviceHandle;
  readonly callback: bigint;
  readonly context: bigint;
}

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
    const { key, stateChangeCallback } = this.callbackOf(dmaDevice, callback, context);
    const { status } = this.operations.registerInterfaceStateChangeCallback({
      stateChangeCallback,
      context,
      dmaDevice,
      stateFields,
    });
    if (status === NtStatus.SUCCESS) this.registrations.set(dmaDevice, { callback, context, stateChangeCallback, key });
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

  /** Whether it stands for one of the guest's. */
  isOwn(stateChangeCallback: InterfaceStateChangeCallback): boolean {
    for (const one of this.registrations.values()) if (one.stateChangeCallback === stateChangeCallback) return true;
    return false;
  }

  /** The device whose registration has this key; 0: none any more. */
  deviceOf(key: object): number {
    for (const [device, one] of this.registrations) if (one.key === key) return device;
    return 0;
  }

  /** The key of a device's registration. */
  keyOf(device: number): object | undefined {
    return this.registrations.get(device as DeviceHandle)?.key;
  }

  /** Device, callback and context of each. */
  all(): Registered[] {
    return [...this.registrations].map(([device, { callback, context }]) => ({ device, callback, context }));
  }

  /** A registration of a saved state, which the unit gets by `watch`. */
  restore({ device, callback, context }: Registered, watch: (callback: InterfaceStateChangeCallback) => void): void {
    const { key, stateChangeCallback } = this.callbackOf(device, callback, context);
    this.registrations.set(device, { callback, context, stateChangeCallback, key });
    watch(stateChangeCallback);
  }

  private callbackOf(device: DeviceHandle, callback: bigint, context: bigint) {
    const { life } = this;
    const key = {};
    const about = { opcode, device, callback, context };
    const stateChangeCallback: InterfaceStateChangeCallback = change => {
      if (life !== this.life) return;
      this.sink.stateChanged(key, about, change);
      this.wake();
    };
    return { key, stateChangeCallback };
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
