/** Makes a recording's file. */
import { hostname, release } from 'node:os';
import type { EventKind } from '../trace/event-kinds.ts';
import { checkKindTable, KindTableError } from '../trace/kind-table.ts';
import { newHeader, RecordingError } from '../trace/recording/format.ts';
import { RecordingWriter } from '../trace/recording/writer.ts';
import { CommandFailure } from './errors.ts';

/** `machine`: its description; `kinds`: what its records mean, where they come from another program. */
export async function createRecording(
  path: string,
  machine: unknown,
  classes: number,
  kinds?: readonly EventKind[],
  onError?: (error: Error) => void,
): Promise<RecordingWriter> {
  const host = { node: process.version, system: `${process.platform} ${release()}`, name: hostname() };
  try {
    const header = newHeader(machine, host);
    return await RecordingWriter.create(path, kinds ? { ...header, kinds: checkKindTable(kinds) } : header, {
      classes,
      ...(onError === undefined ? {} : { onError }),
    });
  } catch (error) {
    if (error instanceof RecordingError || error instanceof KindTableError) throw new CommandFailure(error.message);
    throw new CommandFailure(`cannot write ${path}: ${(error as Error).message}`);
  }
}
