/**
 * What goes wrong on purpose in one machine. It stands between the endpoints, the IOMMU and the rest: each gets its ports through it,
 * and while there are no rules it passes everything on.
 */
import type { EndpointPorts } from '../../devices/endpoint.ts';
import type { RunTranslator, Translator } from '../../iommu/translator.ts';
import type { InterruptLine, InterruptMessages, JobQueue } from '../../pci/ports.ts';
import type { Trace } from '../../trace/trace.ts';
import { ArgumentError } from '../argument-checks.ts';
import type { IommuKindName } from '../description.ts';
import { ActiveRule, RulePlace } from './active-rule.ts';
import { DroppingLine, DroppingMessages, Drops } from './dropping-line.ts';
import { FlippingPort, Flips } from './flipping-port.ts';
import { type After, JobGate } from './job-gate.ts';
import { Refusals, RefusingTranslator } from './refusing-translator.ts';
import {
  checkInjectionRule,
  type DropInvalidationCompletionRule,
  type InjectionRule,
  type InjectionState,
} from './rules.ts';

/** Rules at once. Those that are over make room for new ones. */
export const MAX_RULES = 256;

/** What the IOMMU itself is called as a device. */
const IOMMU = 'iommu';

export interface InjectionOptions {
  readonly iommu: IommuKindName;
  readonly trace: Trace;
  /** Queues a job of the device thread when so many milliseconds are over. */
  readonly after: After;
}

interface Device {
  readonly refusals: Refusals;
  readonly flips: Flips;
  readonly drops: Drops;
  gate: JobGate | undefined;
}

export class Injection {
  private readonly devices = new Map<string, Device>();
  private readonly iommuDrops = new Drops();
  private readonly completions = new RulePlace<DropInvalidationCompletionRule>();
  private iommuGate: JobGate | undefined;
  /** By id, in the order in which they came. */
  private readonly rules = new Map<number, ActiveRule>();
  private lastId = 0;

  constructor(private readonly options: InjectionOptions) {}

  /** The IOMMU as this device meets it; give every translator of the device (one for each PASID) through here. */
  translator(device: string, inner: Translator): RunTranslator {
    return new RefusingTranslator(inner, this.device(device).refusals);
  }

  /** What an endpoint of this name is to be created with. Its DMA ports are expected to stand on `translator`. */
  endpoint(ports: EndpointPorts): EndpointPorts {
    const device = this.device(ports.name);
    const gate = this.gateOf(ports.name, ports.jobs);
    device.gate = gate;
    return {
      ...ports,
      dma: new FlippingPort(ports.dma, device.flips),
      dmaWithPasid: pasid => new FlippingPort(ports.dmaWithPasid(pasid), device.flips),
      line: new DroppingLine(ports.line, device.drops),
      jobs: gate,
    };
  }

  /** Where the IOMMU queues its own work. */
  iommuJobs(inner: JobQueue): JobQueue {
    this.iommuGate = this.gateOf(IOMMU, inner);
    return this.iommuGate;
  }

  iommuLine(inner: InterruptLine): InterruptLine {
    return new DroppingLine(inner, this.iommuDrops);
  }

  iommuMessages(inner: InterruptMessages): InterruptMessages {
    return new DroppingMessages(inner, this.iommuDrops);
  }

  /**
   * To be asked by a VT-d unit at each wait descriptor, right before it says that the invalidations are complete; true: neither the
   * status is written nor the interrupt raised, this once.
   */
  readonly dropCompletion = (): boolean => {
    const rule = this.completions.rules?.[0];
    rule?.apply({});
    return rule !== undefined;
  };

  /**
   * Puts a rule to work; returns its id. Throws an ArgumentError where it is malformed, or means what the machine does not have, and
   * where there are too many.
   */
  add(rule: InjectionRule): number {
    const checked = checkInjectionRule(rule);
    if (checked instanceof ArgumentError) throw checked;
    const start = this.starter(checked);
    this.makeRoom();
    const id = ++this.lastId;
    this.rules.set(id, start(id));
    return id;
  }

  /** Ends a rule, lets go what it holds, and forgets it. False: there is none with this id. */
  remove(id: number): boolean {
    const found = this.release(id);
    this.rules.delete(id);
    return found;
  }

  /** Ends a rule and lets go, in order, what it holds. False: there is none with this id. */
  release(id: number): boolean {
    const rule = this.rules.get(id);
    rule?.end();
    return rule !== undefined;
  }

  /** Those that are over included. */
  list(): InjectionState[] {
    return [...this.rules.values()].map(({ state }) => state);
  }

  private starter(rule: InjectionRule): (id: number) => ActiveRule {
    const { trace, iommu } = this.options;
    const at =
      <Rule extends InjectionRule>(source: string, one: Rule, place: RulePlace<Rule>) =>
      (id: number): ActiveRule =>
        new ActiveRule(id, one, source, trace, place);
    switch (rule.kind) {
      case 'refuse':
        return at(rule.device, rule, this.existing(rule.device).refusals);
      case 'flip':
        return at(rule.device, rule, this.existing(rule.device).flips);
      case 'drop-interrupt':
        if (rule.device === IOMMU && iommu !== 'none') return at(IOMMU, rule, this.iommuDrops);
        return at(rule.device, rule, this.existing(rule.device).drops);
      case 'hold': {
        const { gate } = this.existing(rule.device);
        if (gate !== undefined) return at(rule.device, rule, gate);
        throw new ArgumentError(`'${rule.device}' does not run yet`);
      }
      case 'delay-invalidation':
        if (this.iommuGate !== undefined) return at(IOMMU, rule, this.iommuGate);
        throw new ArgumentError('the machine has no IOMMU whose invalidations could be delayed');
      case 'drop-invalidation-completion':
        if (iommu === 'vtd') return at(IOMMU, rule, this.completions);
        throw new ArgumentError(`only vtd has wait descriptors: the machine's IOMMU is ${iommu}`);
    }
  }

  private existing(name: string): Device {
    const device = this.devices.get(name);
    if (device !== undefined) return device;
    const known = [...this.devices.keys()].join(', ');
    throw new ArgumentError(`there is no endpoint '${name}': the machine has ${known || 'none'}`);
  }

  private device(name: string): Device {
    let device = this.devices.get(name);
    if (device === undefined) {
      device = { refusals: new Refusals(), flips: new Flips(), drops: new Drops(), gate: undefined };
      this.devices.set(name, device);
    }
    return device;
  }

  private gateOf(name: string, inner: JobQueue): JobGate {
    const { after, trace } = this.options;
    return new JobGate({ name, inner, after, trace });
  }

  private makeRoom(): void {
    if (this.rules.size < MAX_RULES) return;
    const over = [...this.rules.values()].find(rule => rule.over && rule.held === 0);
    if (over === undefined) throw new ArgumentError(`there are ${MAX_RULES} rules already: remove some`);
    this.rules.delete(over.id);
  }
}
