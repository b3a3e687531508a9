/** What tests ask of a machine, whether it runs in this process or behind the remote API. */
import { HostPort } from '../inspector/host-port.ts';
import { DROPPED_EVENT, FINDING_EVENT, MACHINE_ENDED_EVENT, MACHINE_REMOVED_EVENT } from '../inspector/protocol.ts';
import { ConnectionError, type RemoteMachine, type RemoteRecords } from '../inspector/remote-client.ts';
import type { FindingsAnswer, MappingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import type { MachineHost } from '../machine/host.ts';
import type { InjectionRule, InjectionState } from '../machine/injection/rules.ts';
import type { MachineEvent } from '../machine/operations-command.ts';
import type { Finding } from '../trace/sanitizer/finding.ts';

export interface MachineAccess {
  /** Where the machine cannot be asked any more, those that came here; rejects where none did. */
  findings(): Promise<FindingsAnswer>;
  mappings(): Promise<MappingsAnswer>;
  statistics(): Promise<object>;
  inject(rule: InjectionRule): Promise<number>;
  releaseInjection(id: number): Promise<unknown>;
  removeInjection(id: number): Promise<unknown>;
  injections(): Promise<readonly InjectionState[]>;
  /** Trace events from now on. */
  events(listener: (event: MachineEvent) => void): Promise<void>;
  /** Records of these classes (`EventClass` bits) from now on. Whole ones, in slots of 32 bytes; only good until the call returns. */
  records(classes: number, take: RemoteRecords): Promise<AccessRecording>;
  /** Resolves when the machine has ended, or cannot be reached any more. */
  readonly ended: Promise<unknown>;
  close(): Promise<void>;
}

export interface AccessRecording {
  readonly machine: MachineDescription;
  stop(): Promise<void>;
}

/** A machine in this process. */
export function hostAccess(host: MachineHost): MachineAccess {
  const port = new HostPort(host);
  return {
    findings: () => port.findings().catch(error => whatIsLeft(host.toldFindings, error)),
    mappings: port.mappings,
    statistics: port.statistics,
    inject: port.inject,
    releaseInjection: port.releaseInjection,
    removeInjection: port.removeInjection,
    injections: port.injections,
    async events(listener) {
      port.events.on('event', listener);
    },
    async records(classes, take) {
      const tap = port.record(classes, words => take(words, 0));
      return { machine: host.description, stop: async () => tap.stop() };
    },
    // Whoever stops it hears of an error that ended it.
    ended: host.ended.catch(() => {}),
    close: () => host.stop(),
  };
}

/** A machine that `viommu serve --listen` serves. Closing leaves it running. */
export function remoteAccess(machine: RemoteMachine): MachineAccess {
  const told = new Map<string, Finding>();
  let tellGone: () => void = () => {};
  const gone = new Promise<void>(resolve => {
    tellGone = resolve;
  });
  return {
    async findings() {
      try {
        const answer = await machine.findings();
        for (const finding of answer.findings) told.set(finding.id, finding);
        return answer;
      } catch (error) {
        if (!(error instanceof ConnectionError)) throw error;
        return whatIsLeft([...told.values()], error);
      }
    },
    mappings: () => machine.mappings(),
    statistics: () => machine.statistics(),
    inject: rule => machine.inject(rule),
    releaseInjection: id => machine.releaseInjection(id),
    removeInjection: id => machine.removeInjection(id),
    injections: () => machine.injections(),
    async events(listener) {
      await machine.subscribe({ kinds: ['*'] }, ({ event, source, detail }) => {
        if (event === FINDING_EVENT) {
          const { finding } = detail as { readonly finding: Finding };
          told.set(finding.id, finding);
          return;
        }
        // The machine of somebody else's lease goes, the connection stays.
        if (event === MACHINE_ENDED_EVENT || event === MACHINE_REMOVED_EVENT) tellGone();
        else if (event !== DROPPED_EVENT) listener({ kind: event, source, detail } as MachineEvent);
      });
    },
    records: (classes, take) => machine.record(classes, take),
    ended: Promise.race([machine.closed, gone]),
    close: () => machine.close(),
  };
}

/** Of a machine that cannot be asked any more. Without any, nobody can say that there were none. */
function whatIsLeft(findings: readonly Finding[], error: unknown): FindingsAnswer {
  if (findings.length === 0) throw error;
  return { state: 'failed', findings, lost: 0 };
}
