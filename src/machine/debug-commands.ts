/** What a device thread is asked about its trace, its findings and its injections; its answers are plain data that can be cloned. */
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { Attachment, LiveMapping } from '../trace/sanitizer/sanitizer.ts';
import type { InjectionRule } from './injection/rules.ts';

/** `off`: no detector is on. `failed`: it, or the machine, ended by an error of ours, and has looked at nothing since. */
export type SanitizerState = 'on' | 'off' | 'failed';

export interface FindingsAnswer {
  /** Only where it is `on`, no findings mean that there was nothing to be found. */
  readonly state: SanitizerState;
  readonly findings: readonly Finding[];
  /** Findings beyond what is kept. */
  readonly lost: number;
  /** Something may turn out to be a mistake, or not, within a fraction of a second. */
  readonly undecided?: boolean;
  /** Nanoseconds, on the clock of all events of the machine: when this was answered. */
  readonly time?: number;
}

export interface MappingsAnswer {
  readonly mappings: readonly LiveMapping[];
  readonly attachments: readonly Attachment[];
}

export type DebugCommand =
  | { readonly name: 'findings' }
  | { readonly name: 'mappings' }
  /** `EventClass` bits that the ring's reader wants; the sources are named again. */
  | { readonly name: 'classes'; readonly classes: number }
  | { readonly name: 'inject'; readonly rule: InjectionRule }
  | { readonly name: 'releaseInjection'; readonly id: number }
  | { readonly name: 'removeInjection'; readonly id: number }
  | { readonly name: 'injections' };
