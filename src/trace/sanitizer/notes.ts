/** Notes of the rooms, as far as they are findings. */
import type { Explanation } from './finding-log.ts';
import { NOTE_RULES, type NoteRule } from './note-rules.ts';
import { type NoteDetail, wordText } from './note-words.ts';
import { domainCreated, mappingsLeft, operationRefused, unmapMismatched } from './operation-notes.ts';
import type { World } from './world.ts';

type Handler = (world: World, source: string, time: number, detail: NoteDetail) => void;

const HANDLERS: ReadonlyMap<string, Handler> = new Map([
  ['dma-iommu.domainCreated', domainCreated],
  ['dma-iommu.refused', operationRefused],
  ['dma-iommu.unmapMismatch', unmapMismatched],
  ['dma-iommu.mappingsLeft', mappingsLeft],
]);
const RULES: ReadonlyMap<string, NoteRule> = new Map(Object.entries(NOTE_RULES));

export function takeNote(world: World, kind: string, source: string, time: number, detail: NoteDetail): void {
  // Most are no findings: each fault brings one of those.
  const rule = RULES.get(kind);
  if (rule === undefined) HANDLERS.get(kind)?.(world, source, time, detail);
  else if (rule.applies?.(detail) !== false) report(world, kind, source, time, detail, rule);
}

function report(world: World, kind: string, source: string, time: number, detail: NoteDetail, rule: NoteRule): void {
  const { detector, summary, explanation, key, address, requester } = rule;
  const requesterId = requester === undefined ? undefined : detail[requester];
  const known = typeof requesterId === 'number' ? requesterId & 0xffff : undefined;
  const text = `${known === undefined ? world.describeSource(source) : world.describe(known)}${summary(detail)}`;
  const iova = address === undefined ? undefined : detail[address];
  const occurrence = {
    detector,
    device: known === undefined ? source : world.deviceOf(known),
    key: `${kind} ${key === undefined ? '' : wordText(detail[key])}`,
    access: { time, kind, source, text },
  };
  world.log.report(
    occurrence,
    (): Explanation => ({
      summary: text,
      explanation,
      ...(typeof iova === 'bigint' ? { iova: BigInt.asUintN(64, iova) } : {}),
    }),
  );
}
