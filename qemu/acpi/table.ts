/** What all ACPI tables share: the header and the checksum (ACPI 6.5, 5.2.6 "System Description Table Header"). */

/** Bytes of the header; the body follows. */
export const TABLE_HEADER_BYTES = 36;

const LENGTH_AT = 4;
const REVISION_AT = 8;
const CHECKSUM_AT = 9;
const OEM_ID_AT = 10;
const OEM_TABLE_ID_AT = 16;
const OEM_REVISION_AT = 24;
const CREATOR_ID_AT = 28;
const CREATOR_REVISION_AT = 32;

const OEM_ID = 'VIOMMU';
const CREATOR_ID = 'VIOM';

export interface TableIdentity {
  /** Four characters, e.g. `DMAR`. */
  readonly signature: string;
  readonly revision: number;
  /** At most eight characters; names this table among those of the same signature. */
  readonly oemTableId: string;
}

/** A whole table: header, body, and a checksum that makes all bytes add up to zero modulo 256. */
export function buildTable(identity: TableIdentity, body: Uint8Array): Uint8Array {
  const { signature, revision, oemTableId } = identity;
  if (!/^[A-Z0-9_]{4}$/.test(signature)) throw new RangeError(`An ACPI signature has four characters: ${signature}`);
  if (oemTableId.length > 8) throw new RangeError(`An OEM table id has at most eight characters: ${oemTableId}`);
  const table = new Uint8Array(TABLE_HEADER_BYTES + body.length);
  const view = new DataView(table.buffer);
  putText(table, 0, signature);
  view.setUint32(LENGTH_AT, table.length, true);
  table[REVISION_AT] = revision;
  putText(table, OEM_ID_AT, OEM_ID);
  putText(table, OEM_TABLE_ID_AT, oemTableId);
  view.setUint32(OEM_REVISION_AT, 1, true);
  putText(table, CREATOR_ID_AT, CREATOR_ID);
  view.setUint32(CREATOR_REVISION_AT, 1, true);
  table.set(body, TABLE_HEADER_BYTES);
  table[CHECKSUM_AT] = -byteSum(table) & 0xff;
  return table;
}

/** Throws unless the bytes are one whole table of this signature with a right length and checksum. */
export function checkTable(table: Uint8Array, signature: string): void {
  const seen = new TextDecoder('latin1').decode(table.subarray(0, 4));
  if (table.length < TABLE_HEADER_BYTES || seen !== signature) {
    throw new Error(`Not an ACPI table ${signature}: ${table.length} bytes that start with ${JSON.stringify(seen)}`);
  }
  const length = new DataView(table.buffer, table.byteOffset).getUint32(LENGTH_AT, true);
  if (length !== table.length)
    throw new Error(`${signature}: its length says ${length} bytes, there are ${table.length}`);
  if (byteSum(table) !== 0) throw new Error(`${signature}: its checksum is wrong`);
}

/** All bytes added up, modulo 256. */
export function byteSum(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum = (sum + byte) & 0xff;
  return sum;
}

function putText(target: Uint8Array, at: number, text: string): void {
  for (let index = 0; index < text.length; index++) target[at + index] = text.charCodeAt(index);
}
