/** The header of a recording as a MessagePack value. */
import { EventClass, type EventKind } from '../event-kinds.ts';
import { checkKindTable, KindTableError } from '../kind-table.ts';
import { FORMAT_NAME, FORMAT_VERSION, MAX_HEAD_BYTES, RecordingError, type RecordingHeader } from './format.ts';
import { encode } from './messagepack.ts';

/** Throws a `RecordingError` where the description of the machine is too large for a header. */
export function encodeHeader(header: RecordingHeader): Buffer {
  // By way of JSON, because members that are undefined have no place in a file.
  const plain = JSON.parse(JSON.stringify({ format: FORMAT_NAME, version: FORMAT_VERSION, ...header }));
  const bytes = encode(plain);
  if (bytes.length > MAX_HEAD_BYTES)
    throw new RecordingError(`the header would be longer than ${MAX_HEAD_BYTES} bytes`);
  return bytes;
}

/** Checks what was decoded. Throws a `RecordingError`. */
export function checkHeader(value: unknown): RecordingHeader {
  if (!isObject(value) || value.format !== FORMAT_NAME) throw new RecordingError('this is not a recording of viommu');
  if (value.version !== FORMAT_VERSION) {
    throw new RecordingError(
      `the recording has version ${String(value.version)} of the format, and this program reads ${FORMAT_VERSION}: use a newer one`,
    );
  }
  return {
    started: typeof value.started === 'string' ? value.started : '',
    machine: value.machine ?? null,
    kinds: kindsOf(value.kinds),
    classes: checkClasses(value.classes),
    host: checkHost(value.host),
  };
}

function kindsOf(value: unknown): EventKind[] {
  try {
    return checkKindTable(value);
  } catch (error) {
    if (error instanceof KindTableError) throw new RecordingError(`the header's 'kinds': ${error.message}`);
    throw error;
  }
}

function checkClasses(value: unknown): Record<string, number> {
  if (!isObject(value)) return { ...EventClass };
  const classes: Record<string, number> = {};
  for (const [name, bit] of Object.entries(value)) if (typeof bit === 'number') classes[name] = bit;
  return classes;
}

function checkHost(value: unknown): RecordingHeader['host'] {
  const host: Record<string, string | number | boolean> = {};
  for (const [name, fact] of Object.entries(isObject(value) ? value : {})) {
    if (typeof fact === 'string' || typeof fact === 'number' || typeof fact === 'boolean') host[name] = fact;
  }
  return host;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
