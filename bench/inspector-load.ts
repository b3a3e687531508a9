/**
 * `node inspector-load.js DIRECTORY`: transfers of an edu device as fast as a client can have them made, through the tables of a VT-d
 * unit. For each line `MILLISECONDS` on its standard input it goes on for so long, and answers `TRANSFERS NANOSECONDS`.
 */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { EventLoop } from '../src/posix/event-loop.ts';
import { createMemfd } from '../src/posix/memfd.ts';
import { VfioUserClient } from '../src/vfio-user/client.ts';

const MEMORY_BYTES = 64 << 20;
const BAR0 = 0;
const CONFIGURATION = 7;
const PCI_COMMAND = 4;
const MEMORY_AND_BUS_MASTER = 6;
/** Page frames of the tables; the device's address space is the guest's, page for page. */
const ROOT = 1;
const CONTEXT = 2;
const LEVEL_3 = 3;
const LEVEL_2 = 4;
const LEVEL_1 = 5;
const BUS = 1;
const DOMAIN = 7n;
const THREE_LEVELS = 1n;
const READ_WRITE = 3n;
const PRESENT = 1n;
const PAGES = 512;
/** VT-d (11.4). */
const ROOT_TABLE_ADDRESS = 0x20;
const GLOBAL_COMMAND = 0x18;
const SET_ROOT_TABLE = 1 << 30;
const ENABLE = 1 << 31;
/** edu. */
const SOURCE = 0x80;
const DESTINATION = 0x88;
const COUNT = 0x90;
const COMMAND = 0x98;
const START_TO_MEMORY = 3;
const BUFFER = 0x40000;
const TRANSFER_BYTES = 1024;
/** Transfers stay in pages that hold no tables. */
const FIRST_PAGE = 64;
const USED_PAGES = 256;
const CHECK_EVERY = 64;

const directory = process.argv[2]!;
const loop = new EventLoop(error => {
  throw error;
});
const memory = createMemfd('inspector-load', MEMORY_BYTES);
buildTables();
const region = {
  address: 0n,
  size: BigInt(MEMORY_BYTES),
  offset: 0n,
  descriptor: memory,
  readable: true,
  writable: true,
};
const iommu = connect('iommu');
const edu = connect('edu0');
iommu.regionWrite(BAR0, ROOT_TABLE_ADDRESS, bytes64(BigInt(ROOT) << 12n));
iommu.regionWrite(BAR0, GLOBAL_COMMAND, bytes32(SET_ROOT_TABLE));
iommu.regionWrite(BAR0, GLOBAL_COMMAND, bytes32(ENABLE));
edu.regionWrite(BAR0, SOURCE, bytes64(BigInt(BUFFER)));
edu.regionWrite(BAR0, COUNT, bytes64(BigInt(TRANSFER_BYTES)));
const start = bytes32(START_TO_MEMORY);
const destination = bytes64(0n);
const destinationView = new DataView(destination.buffer);
let page = 0;

console.log('ready');
for await (const line of createInterface(process.stdin)) {
  const began = process.hrtime.bigint();
  const end = began + BigInt(line) * 1_000_000n;
  let transfers = 0;
  do {
    for (let n = 0; n < CHECK_EVERY; n++) transfer();
    transfers += CHECK_EVERY;
  } while (process.hrtime.bigint() < end);
  console.log(`${transfers} ${process.hrtime.bigint() - began}`);
}
iommu.close();
edu.close();
loop.close();

/** The job of one is done before the next message is served. */
function transfer(): void {
  page = (page + 1) % USED_PAGES;
  destinationView.setUint32(0, (FIRST_PAGE + page) << 12, true);
  edu.regionWrite(BAR0, DESTINATION, destination, { posted: true });
  edu.regionWrite(BAR0, COMMAND, start);
}

function connect(name: string): VfioUserClient {
  const client = new VfioUserClient(loop, join(directory, `${name}.sock`));
  client.negotiate();
  client.dmaMap(region);
  client.regionWrite(CONFIGURATION, PCI_COMMAND, Uint8Array.of(MEMORY_AND_BUS_MASTER, 0));
  return client;
}

function buildTables(): void {
  const put = (frame: number, offset: number, value: bigint) =>
    writeSync(memory, bytes64(value), 0, 8, frame * 4096 + offset);
  const at = (frame: number) => BigInt(frame) << 12n;
  put(ROOT, BUS * 16, at(CONTEXT) | PRESENT);
  put(CONTEXT, 0, at(LEVEL_3) | PRESENT);
  put(CONTEXT, 8, (DOMAIN << 8n) | THREE_LEVELS);
  put(LEVEL_3, 0, at(LEVEL_2) | READ_WRITE);
  put(LEVEL_2, 0, at(LEVEL_1) | READ_WRITE);
  for (let n = 0; n < PAGES; n++) put(LEVEL_1, n * 8, at(n) | READ_WRITE);
}

function bytes32(value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Int32Array.of(value).buffer);
}

function bytes64(value: bigint): Uint8Array<ArrayBuffer> {
  return new Uint8Array(BigInt64Array.of(value).buffer);
}
