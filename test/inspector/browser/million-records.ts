/** A recording of a million records: buffers that are mapped, used, unmapped and flushed, some of them used too late. */
import { describeMachine } from '../../../src/machine/description.ts';
import { EventClass, FaultCause, Kind, MappingSource } from '../../../src/trace/event-kinds.ts';
import { allocateEventRing, EventRingReader, EventRingWriter } from '../../../src/trace/event-ring.ts';
import { newHeader } from '../../../src/trace/recording/format.ts';
import { RecordingWriter } from '../../../src/trace/recording/writer.ts';
import { silentTrace } from '../../../src/trace/trace.ts';
import { Tracer } from '../../../src/trace/tracer.ts';

export const RECORDS = 1_000_000;
/** Of one buffer's life. */
const TRANSFERS = 23;
const RECORDS_OF_A_LIFE = 2 * TRANSFERS + 4;
const LIVES = RECORDS / RECORDS_OF_A_LIFE;
const LIVES_TO_A_MISTAKE = 500;
const LIVES_TO_A_DRAIN = 256;
const NANOSECONDS_APART = 1500;
const DOMAIN = 2;
const PAGES = 4096;
const FIRST_IOVA = 0x1000_0000;
const FIRST_FRAME = 0x20000;
const DEVICES = [
  { name: 'edu0', requesterId: 0x0100 },
  { name: 'edu1', requesterId: 0x0200 },
] as const;
const CLASSES =
  EventClass.translation |
  EventClass.dma |
  EventClass.mapping |
  EventClass.attach |
  EventClass.invalidation |
  EventClass.fault;

export async function writeMillionRecords(path: string): Promise<void> {
  const ring = allocateEventRing();
  const reader = new EventRingReader(ring);
  let now = 0;
  const clock = () => {
    now += NANOSECONDS_APART;
    return now;
  };
  const tracer = new Tracer({ forward: silentTrace, ring: new EventRingWriter(ring, () => {}), now: clock });
  tracer.classes = CLASSES;
  const writer = await RecordingWriter.create(path, newHeader(describeMachine('vtd', ['edu@01:00.0', 'edu@02:00.0'])));
  const iommu = tracer.sourceId('iommu');
  const devices = DEVICES.map(({ name, requesterId }) => ({ source: tracer.sourceId(name), requesterId }));
  for (const { requesterId } of devices) tracer.emit(Kind.attach, iommu, requesterId, DOMAIN, 0, -1, 0);
  for (let life = 0; life < LIVES; life++) {
    const { source, requesterId } = devices[life % devices.length]!;
    const low = FIRST_IOVA + (life % PAGES) * 4096;
    const frame = FIRST_FRAME + (life % PAGES);
    const mapping = (kind: number, how: number) =>
      tracer.emitLong(kind, iommu, DOMAIN, 0, low, frame, 1, 3 | (how << 8) | (12 << 16), 0, 0, 0, 0, 0, 0, 0);
    mapping(Kind['mapping.added'], MappingSource.walk);
    for (let transfer = 0; transfer < TRANSFERS; transfer++) {
      const kind = transfer % 3 === 0 ? Kind['dma.write'] : Kind['dma.read'];
      const translation = requesterId | (2 << 16) | (2 << 18) | (3 << 20) | (12 << 22);
      tracer.emit(Kind.translation, iommu, translation, 0, low, frame, DOMAIN);
      tracer.emitAlso(kind, source, requesterId, 0, low, 64 * (1 + (transfer % 5)), -1);
    }
    tracer.emit(Kind.invalidation, iommu, DOMAIN, 0, low, 1, 2 << 4);
    mapping(Kind['mapping.removed'], MappingSource.invalidation);
    if (life % LIVES_TO_A_MISTAKE === LIVES_TO_A_MISTAKE - 1) {
      const refused = requesterId | (2 << 16) | (FaultCause.notPresent << 22);
      tracer.emitLong(Kind.fault, iommu, refused, 0, low, 5, DOMAIN, -1, 1, 0, 0, 0, 0, 0, 0);
    } else tracer.emit(Kind['invalidation.wait'], iommu, 1, 0, 0x1000, 1, 0);
    if (life % LIVES_TO_A_DRAIN === 0) await drain();
  }
  await drain();
  if (reader.lost > 0) throw new Error(`${reader.lost} records were lost`);
  const { records } = await writer.close();
  if (records < RECORDS) throw new Error(`${records} records are in the file, not ${RECORDS}`);

  async function drain(): Promise<void> {
    tracer.publish();
    while (reader.drain((words, slots) => writer.append(words, slots)) > 0);
    await writer.settled();
  }
}
