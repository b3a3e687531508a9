/** A real unit as the remote API sees one on a device thread: every command and answer is cloned on its way. */
import { EventEmitter } from 'node:events';
import type { MachinePort } from '../../src/inspector/machine-port.ts';
import { describeMachine } from '../../src/machine/description.ts';
import type { MachineEvent, RemoteCommand } from '../../src/machine/operations-command.ts';
import { RemoteCommands } from '../../src/machine/remote-commands.ts';
import type { Rig } from '../iommu/dma-iommu/support.ts';

const NO_HARDWARE = 'the rig is a unit without a machine around it';

export class RigPort implements MachinePort {
  readonly events = new EventEmitter<{ event: [MachineEvent] }>();
  private readonly commands: RemoteCommands;

  constructor(private readonly rig: Rig) {
    this.commands = new RemoteCommands(rig.unit, 'iommu', event => this.events.emit('event', structuredClone(event)));
  }

  operate: MachinePort['operate'] = (operation, args) =>
    this.ask({ name: 'operate', operation, args } as RemoteCommand);
  probe: MachinePort['probe'] = args => this.ask({ name: 'probe', args });
  getInterface: MachinePort['getInterface'] = args => this.ask({ name: 'interface', args });
  snapshot: MachinePort['snapshot'] = () => this.ask({ name: 'snapshot' });
  readonly description = describeMachine('dma-iommu', []);
  findings: MachinePort['findings'] = async () => ({ state: 'on', findings: [], lost: 0 });
  mappings: MachinePort['mappings'] = async () => ({ mappings: [], attachments: [] });
  record: MachinePort['record'] = () => ({ stop() {} });
  inject: MachinePort['inject'] = () => Promise.reject(new Error('the rig has nothing to inject into'));
  releaseInjection: MachinePort['releaseInjection'] = async () => false;
  removeInjection: MachinePort['removeInjection'] = async () => false;
  injections: MachinePort['injections'] = async () => [];
  inspect: MachinePort['inspect'] = () => Promise.reject(new Error(NO_HARDWARE));
  registers: MachinePort['registers'] = () => Promise.reject(new Error(NO_HARDWARE));
  walk: MachinePort['walk'] = async (requesterId, iova, pasid) =>
    structuredClone(this.rig.unit.inspection.walk(requesterId, pasid, iova));
  tlb: MachinePort['tlb'] = async limit => structuredClone(this.rig.unit.inspection.tlb(limit));
  queue: MachinePort['queue'] = () => Promise.reject(new Error(NO_HARDWARE));
  pause: MachinePort['pause'] = () => Promise.reject(new Error(NO_HARDWARE));
  step: MachinePort['step'] = () => Promise.reject(new Error(NO_HARDWARE));
  resume: MachinePort['resume'] = () => Promise.reject(new Error(NO_HARDWARE));
  statistics: MachinePort['statistics'] = async () => structuredClone(this.rig.unit.statistics);

  private async ask<T>(command: RemoteCommand): Promise<T> {
    return structuredClone(this.commands.answer(structuredClone(command))) as T;
  }
}
