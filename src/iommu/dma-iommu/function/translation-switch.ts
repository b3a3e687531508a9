/**
 * Between the endpoints and the unit. What is attached to a domain is always translated, whoever attached it. What is attached to
 * none passes untranslated until translation is switched on, as firmware and systems without a driver expect of every IOMMU; from
 * then on it is blocked.
 */
import { EventClass, Kind, TranslationSource } from '../../../trace/event-kinds.ts';
import { type Events, noEvents } from '../../../trace/events.ts';
import { silentTrace, type Trace } from '../../../trace/trace.ts';
import {
  Access,
  type FaultInjectable,
  isRunTranslator,
  PageByPage,
  type RunTranslator,
  type Translation,
  type Translator,
} from '../../translator.ts';
import { Untranslated } from '../../untranslated.ts';
import { FaultType } from '../types.ts';
import type { ProbeAnswer } from '../unit.ts';
import { ADDRESS_BITS } from './limits.ts';
import type { SwitchedTranslator } from './ports.ts';

export interface TranslationSwitchOptions {
  readonly trace?: Trace;
  readonly name?: string;
}

const NO_PASID = -1;
const NO_DOMAIN = -1;
const FRAME_HIGH_SHIFT = 20;
const FRAME_LOW_SHIFT = 12;
const HIGH_WITHOUT_MEMORY = ~((1 << (ADDRESS_BITS - 32)) - 1);

export class TranslationSwitch implements RunTranslator, FaultInjectable {
  enabled = false;
  private readonly runs: RunTranslator;
  private readonly untranslated = new Untranslated();

  private readonly records: Events;
  private readonly source: number;

  /** `name` is that of the unit in events. */
  constructor(
    private readonly unit: SwitchedTranslator,
    { trace = silentTrace, name = '' }: TranslationSwitchOptions = {},
  ) {
    this.records = trace.records ?? noEvents;
    this.source = this.records.sourceId(name);
    this.runs = isRunTranslator(unit) ? unit : new PageByPage(unit);
  }

  reset(): void {
    this.enabled = false;
  }

  /** True: such requests do not get to the unit. */
  bypasses(requesterId: number, pasid: number): boolean {
    return !this.enabled && !this.unit.isAttached(requesterId, pasid);
  }

  /** What DMA would meet, the unit's own answer included. */
  probe(requesterId: number, pasid: number, high: number, low: number, access: number): ProbeAnswer {
    if (this.bypasses(requesterId, pasid)) return bypass(high, low);
    return this.unit.probe(requesterId, pasid, high, low, access);
  }

  translate(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    out: Translation,
    pasid = NO_PASID,
  ): boolean {
    if (this.bypasses(requesterId, pasid)) {
      return this.told(
        this.untranslated.translate(requesterId, high, low, access, out),
        requesterId,
        high,
        low,
        access,
        out,
      );
    }
    return this.unit.translate(requesterId, high, low, access, out, pasid);
  }

  translateRun(
    requesterId: number,
    high: number,
    low: number,
    access: number,
    length: number,
    out: Translation,
  ): boolean {
    if (!this.bypasses(requesterId, NO_PASID))
      return this.runs.translateRun(requesterId, high, low, access, length, out);
    const translated = this.untranslated.translateRun(requesterId, high, low, access, length, out);
    return this.told(translated, requesterId, high, low, access, out);
  }

  /** Also of a request that would have gone around the unit: whoever wants it refused wants the fault. */
  refuse(requesterId: number, high: number, low: number, access: number): void {
    this.unit.refuse?.(requesterId, high, low, access);
  }

  /** Says that a request went around the unit; returns whether it did. */
  private told(
    translated: boolean,
    requesterId: number,
    high: number,
    low: number,
    access: number,
    { frame, permissions, shift }: Translation,
  ): boolean {
    if (!translated || (this.records.mask & EventClass.translation) === 0) return translated;
    const source = TranslationSource.untranslated << 18;
    const word = requesterId | (access << 16) | source | (permissions << 20) | (shift << 22);
    this.records.emit(Kind.translation, this.source, word, high, low, frame, NO_DOMAIN);
    return true;
  }

  /** The same for requests that carry this PASID. */
  withPasid(pasid: number): Translator {
    return {
      translate: (requesterId, high, low, access, out) => this.translate(requesterId, high, low, access, out, pasid),
    };
  }
}

/** Untranslated, as far as there can be memory. */
function bypass(high: number, low: number): ProbeAnswer {
  const translated = (high & HIGH_WITHOUT_MEMORY) === 0;
  return {
    translated,
    fault: translated ? -1 : FaultType.AddressSizeFault,
    domain: 0,
    frame: translated ? (high << FRAME_HIGH_SHIFT) | (low >>> FRAME_LOW_SHIFT) : 0,
    shift: FRAME_LOW_SHIFT,
    permissions: translated ? Access.read | Access.write : 0,
    level: 0,
    source: 'none',
    stale: false,
  };
}
