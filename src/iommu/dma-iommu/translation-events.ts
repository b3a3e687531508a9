/** What there is to tell of one translation: where it came from, and whether the tables still say so. */
import { TranslationSource } from '../../trace/event-kinds.ts';
import type { Translation } from '../translator.ts';
import { identitySpace } from './address-space.ts';
import type { Core } from './core.ts';
import type { Domain } from './domain.ts';

/** `length`: bytes that the device asked for; 0 if that is not known. */
export function tellTranslated(
  { events, answer }: Core,
  { handle, space }: Domain,
  requesterId: number,
  high: number,
  low: number,
  access: number,
  length: number,
  out: Translation,
): void {
  const source = space === identitySpace ? TranslationSource.passThrough : answer.source;
  events.translated(requesterId, high, low, access, source, out, handle);
  if (!answer.stale) return;
  answer.stale = false;
  events.stale(requesterId, high, low, access, answer, out, handle, length);
}

/** The tables would have it translated. */
export function tellRefused(
  { events, answer }: Core,
  { handle }: Domain,
  requesterId: number,
  high: number,
  low: number,
  access: number,
  length: number,
): void {
  answer.stale = false;
  events.stale(requesterId, high, low, access, answer, undefined, handle, length);
}
