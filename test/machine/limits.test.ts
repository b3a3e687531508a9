/** The limits of a description, at the connections of its machine. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkDescription } from '../../src/machine/description.ts';
import { Machine } from '../../src/machine/machine.ts';
import { EventLoop } from '../../src/posix/event-loop.ts';
import { closeDescriptor, socketPair } from '../../src/posix/socket.ts';
import { TraceLog } from '../../src/trace/trace.ts';
import { VfioUserClient, VfioUserError } from '../../src/vfio-user/client.ts';
import { writeMany } from '../../src/vfio-user/client-regions.ts';
import { LimitError, settleLimits } from '../../src/vfio-user/limit-settings.ts';
import { type GivenLimits, limitNames, limitTable } from '../../src/vfio-user/limit-table.ts';
import { MigrationState } from '../../src/vfio-user/migration.ts';
import { MigrationClient } from '../../src/vfio-user/migration-client.ts';

const ENOSPC = 28;
const EINVAL = 22;
const BAR0 = 0;
const CONFIG = 7;

let directory: string;
let loop: EventLoop;
let trace: TraceLog;
const closing: { close(): void }[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'viommu-limits-'));
  loop = new EventLoop(error => {
    throw error;
  });
});

afterEach(() => {
  for (const one of closing.splice(0).reverse()) one.close();
  loop.close();
  rmSync(directory, { recursive: true });
});

/** A client of the machine's function. */
function connect(name: string, limits?: GivenLimits, overStream = false): VfioUserClient {
  const description = checkDescription({ iommu: 'vtd', endpoints: ['edu@01:00.0'], ...(limits && { limits }) });
  trace = new TraceLog();
  const machine = new Machine({ description, directory, loop, trace });
  closing.push(machine);
  const client = new VfioUserClient(
    loop,
    overStream ? adopted(machine, name) : machine.sockets[name]!,
    {},
    {
      messages: overStream,
    },
  );
  closing.push(client);
  return client;
}

function adopted(machine: Machine, name: string): number {
  const [ours, theirs] = socketPair();
  machine.adopt(name, theirs);
  closeDescriptor(theirs);
  return ours;
}

function capabilities(client: VfioUserClient): object {
  return JSON.parse(client.negotiate().data).capabilities;
}

function mapPage(client: VfioUserClient, page: number): number {
  const region = { size: 4096n, offset: 0n, readable: true, writable: true, descriptor: -1 };
  return errnoOf(() => client.dmaMap({ ...region, address: BigInt(page) * 4096n }));
}

function errnoOf(call: () => unknown): number {
  try {
    call();
    return 0;
  } catch (error) {
    if (error instanceof VfioUserError) return error.errno;
    throw error;
  }
}

describe.each(['iommu', 'edu0'])('the limits of a machine, at %s', name => {
  it('are those by default where it says nothing', () => {
    expect(capabilities(connect(name))).toMatchObject({ max_dma_maps: 65535, max_data_xfer_size: 1048576 });
  });

  it('are announced', () => {
    const limits = { maxDmaMaps: 2, maxDataTransfer: 8192, maxDescriptors: 1 };
    expect(capabilities(connect(name, limits))).toMatchObject({
      max_dma_maps: 2,
      max_data_xfer_size: 8192,
      max_msg_fds: 1,
    });
  });

  it('are kept', () => {
    const client = connect(name, { maxDmaMaps: 2 });
    client.negotiate();
    expect([0, 1, 2].map(page => mapPage(client, page))).toEqual([0, 0, ENOSPC]);
  });
});

it('a transfer beyond its limit is refused', () => {
  const client = connect('edu0', { maxDataTransfer: 8192 });
  client.negotiate();
  expect([8192, 8193].map(count => errnoOf(() => client.regionRead(BAR0, 0, count)))).toEqual([0, EINVAL]);
});

/** Under load a client that does answer may be later than the shortest time. */
const inTime = (name: string, value: number): boolean => !name.endsWith('Timeout') || value >= 10_000;
const ENDS = limitNames.flatMap(name =>
  (['least', 'most'] as const).map(end => [name, limitTable[name][end]] as const).filter(one => inTime(...one)),
);

function atEnds(end: 'least' | 'most'): GivenLimits {
  const all = limitNames.map(name => [name, limitTable[name][end]] as const);
  return Object.fromEntries(all.filter(one => inTime(...one)));
}

/** Some limits, each at an end of its range, that go together. */
const someAtEnds = fc
  .record(
    Object.fromEntries(
      limitNames.map(name => {
        const { least, most } = limitTable[name];
        return [name, fc.constantFrom(...[least, most].filter(value => inTime(name, value)))];
      }),
    ),
    { requiredKeys: [] },
  )
  .filter(goTogether);

function goTogether(limits: GivenLimits): boolean {
  try {
    settleLimits(limits);
    return true;
  } catch (error) {
    if (error instanceof LimitError) return false;
    throw error;
  }
}

describe.each(['a unix socket', 'a stream'])(
  'registers, many writes, DMA, its log and a saved state work over %s',
  how => {
    it.each(ENDS)('with %s = %i', (name, value) => works({ [name]: value }, how === 'a stream'));
    it.each(['least', 'most'] as const)('with the %s of every limit', end => works(atEnds(end), how === 'a stream'));

    it('with any of them at an end of its range', () => {
      fc.assert(
        fc
          .property(someAtEnds, limits => works(limits, how === 'a stream'))
          .afterEach(() => {
            for (const one of closing.splice(0).reverse()) one.close();
          }),
        { numRuns: 40 },
      );
    });
  },
);

function works(limits: GivenLimits, overStream: boolean): void {
  const client = connect('edu0', limits, overStream);
  client.negotiate({ capabilities: QEMU_CAPABILITIES });
  client.dmaMap({ address: 0n, size: 65536n, offset: 0n, readable: true, writable: true, descriptor: -1 });
  client.regionWrite(CONFIG, 4, Uint8Array.of(6, 0));
  const memory = Uint8Array.from({ length: 65536 }, (_, i) => i * 7 + (i >> 8));
  client.onDmaRead = ({ address, count }) => memory.slice(Number(address), Number(address) + count);
  client.onDmaWrite = ({ address, data }) => {
    memory.set(data, Number(address));
    return 0;
  };
  const registers = [
    [0x80, 100n],
    [0x88, 0x40000n],
    [0x90, 4000n],
    [0x98, 1n],
  ] as const;
  const writes = registers.map(([offset, register]) => ({ region: BAR0, offset, bytes: bytes64(register) }));
  // As many as QEMU sends, of which one command is the last.
  const filled = [...new Array(196).fill(writes[0]), ...writes];
  const fits = settleLimits(limits).maxCoalescedWrites >= filled.length;
  expect(writeMany(client, fits ? filled : writes.slice(0, 1))).toBe(fits ? 200 : 1);
  if (!fits) for (const { region, offset, bytes } of writes) client.regionWrite(region, offset, bytes);
  finishDma(client);
  const states = new MigrationClient(client);
  states.startLogging(4096n, [{ address: 0n, length: 65536n }]);
  const store = [
    [0x80, 0x40000n],
    [0x88, 0x8000n],
    [0x98, 3n],
  ] as const;
  for (const [offset, register] of store) client.regionWrite(BAR0, offset, bytes64(register));
  finishDma(client);
  expect(memory.slice(0x8000, 0x8000 + 4000)).toEqual(memory.slice(100, 4100));
  // The bitmap has one word: as little as any limit allows.
  expect([...states.reportLogging(0n, 65536n, 4096n)]).toEqual([0, 1, 0, 0, 0, 0, 0, 0]);
  states.stopLogging();
  states.setState(MigrationState.stopCopy);
  const state = states.readAll(limitTable.maxDataTransfer.least);
  states.setState(MigrationState.resuming);
  states.writeAll(state, limitTable.maxDataTransfer.least);
  states.setState(MigrationState.running);
  expect(client.regionRead(BAR0, 0x88, 8)).toEqual(bytes64(0x8000n));
  expect(client.regionRead(CONFIG, 0, 64)).toHaveLength(64);
}

describe.each([
  ['dmaTimeout', false],
  ['streamDmaTimeout', true],
] as const)('the shortest %s', (name, overStream) => {
  it('ends DMA that is not answered, and the client goes on being served', () => {
    const { least } = limitTable[name];
    const client = connect('edu0', { [name]: least }, overStream);
    client.negotiate({ capabilities: QEMU_CAPABILITIES });
    client.dmaMap({ address: 0n, size: 65536n, offset: 0n, readable: true, writable: true, descriptor: -1 });
    client.regionWrite(CONFIG, 4, Uint8Array.of(6, 0));
    client.onDmaRead = () => undefined;
    for (const [offset, register] of [
      [0x88, 0x40000n],
      [0x90, 64n],
      [0x98, 1n],
    ] as const) {
      client.regionWrite(BAR0, offset, bytes64(register));
    }
    finishDma(client);
    const told = trace.events.filter(({ kind }) => kind === 'dma.unanswered').map(({ detail }) => detail);
    expect(told).toMatchObject([{ command: 'dmaRead', address: 0n, count: 64, milliseconds: least }]);
  });
});

const QEMU_CAPABILITIES = {
  max_msg_fds: 16,
  max_data_xfer_size: 1048576,
  max_dma_maps: 65535,
  pgsizes: 4096,
  migration: { pgsize: 4096, max_bitmap_size: 268435456 },
  write_multiple: true,
};

function finishDma(client: VfioUserClient): void {
  expect(loop.waitUntil(() => (client.regionRead(BAR0, 0x98, 8)[0]! & 1) === 0, 20_000)).toBe(true);
}

function bytes64(value: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(value).buffer);
}
