/** The steps of a run that make DMA devices, ask and watch them, and say who hears of faults. */
import { isDeepStrictEqual } from 'node:util';
import { NtStatus } from '../../../src/iommu/dma-iommu/ntstatus.ts';
import type { Answer } from '../../../src/iommu/dma-iommu/operations.ts';
import type {
  DeviceCreationConfiguration,
  DeviceFaultConfiguration,
  DeviceFaultHandler,
  DeviceHandle,
  InterfaceStateChangeCallback,
} from '../../../src/iommu/dma-iommu/types.ts';
import { Translation } from '../../../src/iommu/translator.ts';
import { type ModelDevice, ModelPasid } from './model.ts';
import {
  CALLBACK_ONCE,
  createDevice,
  deviceInfo,
  domainTypes,
  inputMappings,
  type ModelConfig,
  register,
  unregister,
  type WholeAnswer,
} from './model-devices.ts';
import { HANDLER_CAUSES_FAULT, HANDLER_DISABLES, type ModelHandler } from './model-faults.ts';
import { type ModelRun, PAGES } from './model-run.ts';
import { DISK, GPU, NIC, STRANGER, UART } from './support.ts';

const PDOS = [NIC, DISK, GPU, UART];
/** Base and count of the input mapping ids of a device that ACPI enumerated. */
const GROUPS = [
  [8, 2],
  [9, 3],
  [12, 1],
  [8, 8],
] as const;
const BAD_GROUPS = [
  [8, 9],
  [7, 1],
  [8, 0],
  [15, 2],
  [1.5, 1],
] as const;
const ACPI = 1;
const PASID = 3;

/** What a handler or callback gets as its context: enough to call the unit from within. */
interface Context {
  readonly number: number;
  readonly pdo: number;
  readonly base: number;
  readonly dmaDevice: DeviceHandle;
}

export class DeviceSteps {
  /** Handles of devices that are no more. */
  gone: DeviceHandle[] = [];
  private contexts = 0;
  private readonly handlers: readonly DeviceFaultHandler[];
  private readonly callbacks: readonly InterfaceStateChangeCallback[];
  private readonly out = new Translation();

  constructor(private readonly run: ModelRun) {
    this.handlers = [0, 1, 2].map(handler => (context, fault) => {
      run.heard.push({ what: 'handler', handler, context, fault });
      const { pdo, base } = context as Context;
      if (handler === HANDLER_CAUSES_FAULT) run.rig.unit.translate(STRANGER, 0, 0, 1, this.out);
      if (handler !== HANDLER_DISABLES) return;
      const args = { physicalDeviceObject: pdo, inputMappingIdBase: base, enable: false };
      run.within('setDeviceFaultReporting', run.rig.unit.setDeviceFaultReporting(args));
    });
    this.callbacks = [0, 1, 2].map(callback => (change, context) => {
      run.heard.push({ what: 'change', callback, context, change });
      if (callback !== CALLBACK_ONCE) return;
      const { dmaDevice } = context as Context;
      const args = { stateChangeCallback: this.callbacks[callback]!, dmaDevice };
      run.within('unregister', run.rig.unit.unregisterInterfaceStateChangeCallback(args));
    });
  }

  create(): void {
    const { run } = this;
    const { live, model, rig } = run;
    const picked = run.pickLive(live.devices);
    if (picked !== undefined && run.below(3) === 0) {
      const [device, dmaDevice] = picked;
      const answer = rig.unit.deleteDevice({ dmaDevice });
      if (!run.compare('deleteDevice', `${dmaDevice}`, answer, model.deleteDevice(device))) return;
      live.devices.delete(device);
      this.gone.push(dmaDevice);
      run.compare('deleteDevice (again)', `${dmaDevice}`, rig.unit.deleteDevice({ dmaDevice }), 'INVALID_HANDLE');
      return;
    }
    const pdo = run.below(12) === 0 ? STRANGER : run.pick([NIC, DISK, GPU, GPU, GPU, UART, UART]);
    const configs = this.configs(pdo);
    const expected = createDevice(model, pdo, configs);
    const deviceConfig =
      configs.length === 0 && run.maybe() ? undefined : (configs as readonly DeviceCreationConfiguration[]);
    const answer = rig.unit.createDevice({ physicalDeviceObject: pdo, deviceConfig });
    const args = `${pdo} ${JSON.stringify(configs)}`;
    run.compare('createDevice', args, answer, typeof expected === 'string' ? expected : 'SUCCESS');
    if (typeof expected !== 'string') live.devices.set(expected, answer.dmaDevice!);
  }

  /** Mostly good ones. */
  private configs(pdo: number): ModelConfig[] {
    const { run } = this;
    const bad = run.below(8) === 0;
    const configs: ModelConfig[] = [];
    if (bad ? run.maybe() : pdo === UART) {
      const [inputMappingBase, mappingsCount] = run.pick<readonly [number, number]>(bad ? BAD_GROUPS : GROUPS);
      configs.push({ configType: ACPI, inputMappingBase, mappingsCount });
    }
    if (pdo === GPU ? run.below(6) !== 0 : run.below(4) === 0) {
      const pasidConfigType = bad ? run.pick([-1, 0, 1, 2]) : pdo === GPU && run.below(4) !== 0 ? 1 : run.below(2);
      configs.push({ configType: PASID, pasidConfigType, suppressPasidFaults: run.maybe() });
    }
    if (bad && run.maybe()) configs.push({ configType: run.pick([0, 2, 4]) });
    if (bad && configs.length > 0 && run.maybe()) configs.push(run.pick(configs));
    return run.maybe() ? configs : configs.reverse();
  }

  /** A device of the model and its handle; now and then a handle that stands for none. */
  private device(): [ModelDevice | undefined, DeviceHandle] {
    const { run } = this;
    const picked = run.pickLive(run.live.devices);
    if (picked !== undefined && run.below(6) !== 0) return picked;
    const others: number[] = [0, -1, 2 ** 30, Number.NaN, ...this.gone, ...run.live.domains.values()];
    return [undefined, run.pick(others) as DeviceHandle];
  }

  /** The whole answer, not only its status. */
  private same(name: string, args: string, answer: Answer, expected: WholeAnswer): void {
    this.run.compare(name, args, answer, expected.status);
    const whole = { ...expected, status: NtStatus[expected.status] };
    if (!isDeepStrictEqual({ ...answer }, whole)) throw this.run.differs(name, answer, whole);
  }

  query(): void {
    const { run } = this;
    const { unit } = run.rig;
    const [device, dmaDevice] = this.device();
    const choice = run.below(3);
    if (choice === 0) {
      const size = run.pick([0, 2, 3, 4, 4096, -1, Number.NaN]);
      const answer = unit.queryDeviceInfo({ dmaDevice, size });
      this.same('queryDeviceInfo', `${dmaDevice} ${size}`, answer, deviceInfo(device, size));
    } else if (choice === 1) {
      this.queryTypes(device, dmaDevice);
    } else {
      const pdo = run.pick([...PDOS, UART, STRANGER]);
      const bufferLength = run.pick([0, 3, 4, 31, 32, 64, -1, Number.NaN]);
      const answer = unit.queryInputMappings({ physicalDeviceObject: pdo, bufferLength });
      this.same('queryInputMappings', `${pdo} ${bufferLength}`, answer, inputMappings(run.model, pdo, bufferLength));
    }
  }

  private queryTypes(device: ModelDevice | undefined, dmaDevice: DeviceHandle): void {
    const { model, rig } = this.run;
    this.same('queryAvailableDomainTypes', `${dmaDevice}`, rig.unit.queryAvailableDomainTypes({ dmaDevice }), {
      status: device === undefined ? 'INVALID_HANDLE' : 'SUCCESS',
      availableDomains: device === undefined ? 0 : domainTypes(model, device.pdo),
    });
  }

  watch(): void {
    const { run } = this;
    const { model, rig } = run;
    const [device, dmaDevice] = this.device();
    const callback = run.below(this.callbacks.length);
    if (run.below(3) === 0) {
      const known = run.maybe() ? (device?.watcher?.callback ?? callback) : callback;
      const args = { stateChangeCallback: this.callbacks[known]!, dmaDevice };
      const answer = rig.unit.unregisterInterfaceStateChangeCallback(args);
      const expected = unregister(device, known);
      run.compare('unregisterInterfaceStateChangeCallback', `${dmaDevice} ${known}`, answer, expected);
      return;
    }
    const stateFields = run.below(5) === 0 ? run.pick([0, 2, 3, -1, Number.NaN]) : 1;
    const given = run.below(8) === 0 ? undefined : callback;
    const context = this.context(device?.pdo ?? 0, 0, dmaDevice);
    const stateChangeCallback = given === undefined ? undefined : this.callbacks[given];
    const answer = rig.unit.registerInterfaceStateChangeCallback({
      stateChangeCallback: stateChangeCallback!,
      context,
      dmaDevice,
      stateFields,
    });
    const { status, told } = register(model, device, given, context, stateFields);
    run.compare('registerInterfaceStateChangeCallback', `${dmaDevice} ${given} ${stateFields}`, answer, status);
    run.expectHeard(told);
    this.queryTypes(device, dmaDevice);
  }

  private context(pdo: number, base: number, dmaDevice: DeviceHandle): Context {
    this.contexts++;
    return { number: this.contexts, pdo, base, dmaDevice };
  }

  /** Switches reporting of somebody who is attached, mostly. */
  report(): void {
    const { run } = this;
    const { live, model, rig } = run;
    const enable = run.below(4) !== 0;
    const number = run.below(this.handlers.length);
    const attached = [...model.attachments];
    const some = attached.length > 0 && run.below(6) !== 0 ? run.pick(attached) : undefined;
    const ex = some?.device !== undefined ? run.maybe() : run.below(8) === 0;
    const [device, dmaDevice] =
      ex && some?.device !== undefined ? ([some.device, live.devices.get(some.device)!] as const) : this.device();
    const pdo = (ex ? device?.pdo : some?.pdo) ?? run.pick([...PDOS, STRANGER]);
    const right = (ex ? device?.base : some?.base) ?? 0;
    const base = run.below(8) === 0 ? run.pick([0, 1, 8, 9, 10, -1]) : right;
    const context = this.context(pdo, base, dmaDevice);
    const handler: ModelHandler | undefined = run.below(8) === 0 ? undefined : { handler: number, context };
    const faultConfig = (
      handler === undefined
        ? run.pick([undefined, {}, { faultHandler: 'handler' }])
        : { faultHandler: this.handlers[number], faultContext: context }
    ) as DeviceFaultConfiguration | undefined;
    const args = `${ex ? dmaDevice : pdo}/${base} ${enable} ${handler?.handler}`;
    if (ex) {
      const answer = rig.unit.setDeviceFaultReportingEx({ dmaDevice, inputMappingIdBase: base, enable, faultConfig });
      const expected = model.faults.setReportingEx(device, base, enable, handler);
      run.compare('setDeviceFaultReportingEx', args, answer, expected);
    } else {
      const all = { physicalDeviceObject: pdo, inputMappingIdBase: base, enable, faultConfig };
      const expected = model.faults.setReporting(pdo, base, enable, handler);
      run.compare('setDeviceFaultReporting', args, rig.unit.setDeviceFaultReporting(all), expected);
    }
  }

  /** PASIDs are made, attached, detached and given back. */
  pasids(): void {
    const { run } = this;
    const { live, model, rig } = run;
    const picked = run.pickLive(live.pasids);
    const domain = run.pickLive(live.domains);
    const choice = run.below(4);
    if (picked === undefined || choice === 0) {
      const device = run.pickLive(live.devices);
      if (device === undefined) return;
      const answer = rig.unit.createPasidDevice({ dmaDevice: device[1] });
      const expected = device[0].tagged ? 'SUCCESS' : 'INVALID_PARAMETER_1';
      if (!run.compare('createPasidDevice', `${device[1]}`, answer, expected)) return;
      const pasid = new ModelPasid(device[0], answer.asid!);
      device[0].pasids.add(pasid);
      live.pasids.set(pasid, answer.pasidDevice!);
      return;
    }
    const [pasid, pasidDevice] = picked;
    if (choice === 1) {
      const gone = run.compare(
        'deletePasidDevice',
        `${pasidDevice}`,
        rig.unit.deletePasidDevice({ pasidDevice }),
        model.deletePasid(pasid),
      );
      if (gone) live.pasids.delete(pasid);
    } else if (choice === 2) {
      run.compare(
        'detachPasidDevice',
        `${pasidDevice}`,
        rig.unit.detachPasidDevice({ pasidDevice }),
        model.detachPasid(pasid),
      );
      run.accesses.access(pasid.device.pdo, pasid.pasid, run.pick(PAGES), 1);
    } else if (domain !== undefined) {
      const expected = model.attachPasid(domain[0], pasid);
      const answer = rig.unit.attachPasidDevice({ domain: domain[1], pasidDevice });
      run.compare('attachPasidDevice', `${domain[1]} ${pasidDevice}`, answer, expected);
    }
  }
}
