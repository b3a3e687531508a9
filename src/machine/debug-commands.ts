/** What a device thread is asked about its trace, its findings and its injections; its answers are plain data that can be cloned. */
import type { Finding } from '../trace/sanitizer/finding.ts';
import type { Attachment, LiveMapping } from '../trace/sanitizer/sanitizer.ts';
import type { InjectionRule } from './injection/rules.ts';

export interface FindingsAnswer {
  readonly findings: readonly Finding[];
  /** Findings beyond what is kept. */
  readonly lost: number;
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
