/** A machine on its device thread, as the remote API sees it. */
import type { MachineHost } from '../machine/host.ts';
import type { MachineEvent, RemoteCommand } from '../machine/operations-command.ts';
import type { FindingEvents, MachineEnd, MachineEvents, MachinePort } from './machine-port.ts';

export class HostPort implements MachinePort {
  readonly events: MachineEvents = {
    on: (_event, listener: (event: MachineEvent) => void) => this.host.on('event', listener).on('callback', listener),
    off: (_event, listener: (event: MachineEvent) => void) =>
      this.host.off('event', listener).off('callback', listener),
  };

  readonly newFindings: FindingEvents;
  readonly ended: Promise<MachineEnd>;

  constructor(private readonly host: MachineHost) {
    this.newFindings = host;
    this.ended = this.waitForEnd();
  }

  operate: MachinePort['operate'] = (operation, args) =>
    this.ask({ name: 'operate', operation, args } as RemoteCommand);

  probe: MachinePort['probe'] = args => this.ask({ name: 'probe', args });

  getInterface: MachinePort['getInterface'] = args => this.ask({ name: 'interface', args });

  snapshot: MachinePort['snapshot'] = () => this.ask({ name: 'snapshot' });

  statistics: MachinePort['statistics'] = () => this.host.statistics();

  get description(): MachinePort['description'] {
    return this.host.description;
  }

  findings: MachinePort['findings'] = () => this.host.findings();

  mappings: MachinePort['mappings'] = () => this.host.mappings();

  record: MachinePort['record'] = (classes, take) => this.host.record(classes, take);

  inject: MachinePort['inject'] = rule => this.host.inject(rule);

  releaseInjection: MachinePort['releaseInjection'] = id => this.host.releaseInjection(id);

  removeInjection: MachinePort['removeInjection'] = id => this.host.removeInjection(id);

  injections: MachinePort['injections'] = () => this.host.injections();

  inspect: MachinePort['inspect'] = () => this.host.inspect();

  registers: MachinePort['registers'] = name => this.host.registers(name);

  walk: MachinePort['walk'] = (requesterId, iova, pasid) => this.host.walk(requesterId, iova, pasid);

  tlb: MachinePort['tlb'] = limit => this.host.tlb(limit);

  queue: MachinePort['queue'] = () => this.host.queue();

  pause: MachinePort['pause'] = () => this.host.pause();

  step: MachinePort['step'] = what => this.host.step(what);

  resume: MachinePort['resume'] = () => this.host.resume();

  alive = async (): Promise<void> => {
    if (!this.host.stoppedByFinding) await this.host.statistics();
  };

  openStream = (functionName: string): Promise<number> => this.host.openStream(functionName);

  private async waitForEnd(): Promise<MachineEnd> {
    let reason = 'it was stopped';
    try {
      await this.host.ended;
    } catch (error) {
      reason = (error as Error).message;
    }
    const { stoppedByFinding } = this.host;
    return { reason: stoppedByFinding ? 'a finding stopped it' : reason, stoppedByFinding };
  }

  private async ask<T>(command: RemoteCommand): Promise<T> {
    return (await this.host.ask(command)) as T;
  }
}
