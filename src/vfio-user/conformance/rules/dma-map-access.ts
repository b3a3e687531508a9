/** Regions whose client says how their descriptor is to be used: by mmap(2), or by pread(2) and pwrite(2). */
import { closeSync, openSync } from 'node:fs';
import { readAt, writeAt } from '../../../posix/memfd.ts';
import { allocateNative, freeNative, type NativeBlock } from '../../../posix/native-memory.ts';
import { closeDescriptor, socketPair } from '../../../posix/socket.ts';
import { Command, DmaMap } from '../../spec.ts';
import type { Context } from '../context.ts';
import { EduDriver, MEMORY } from '../edu-driver.ts';
import { isFailed, type Peer } from '../peer.ts';
import { equal, equalBytes, inSection, isTrue, notOffered, type Rule } from '../rule.ts';
import { type MapFields, mapPayload, PAGE, pattern, unmapPayload } from '../wire.ts';
import { refuseMap } from './dma-map-steps.ts';

const PAGE_BYTES = 4096;
const READ_WRITE = DmaMap.readable | DmaMap.writable;
const MMAP = READ_WRITE | DmaMap.mmap;
const FILE_IO = READ_WRITE | DmaMap.fileIo;

/** Skips the rule where the server knows no such flag: the text of the specification has none. */
function mapAs(peer: Peer, what: string, fields: MapFields, descriptor: number): void {
  const reply = peer.ask(Command.dmaMap, mapPayload(fields), { descriptors: [descriptor] });
  if (isFailed(reply)) notOffered(what);
}

function openFile(context: Context, pages: number, fields: MapFields) {
  const edu = EduDriver.open(context);
  const memory = context.memory(pages * PAGE_BYTES);
  mapAs(edu.peer, 'DMA regions by file I/O', { address: MEMORY, flags: FILE_IO, ...fields }, memory);
  return { edu, memory };
}

function contents(memory: number, at: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  readAt(memory, bytes, 0, length, at);
  return bytes;
}

/** Of this process. */
function withMemoryOfProcess(check: (memory: number, block: NativeBlock) => void): void {
  const block = allocateNative(2 * PAGE_BYTES);
  const memory = openSync('/proc/self/mem', 'r+');
  try {
    check(memory, block);
  } finally {
    closeSync(memory);
    freeNative(block);
  }
}

export const dmaMapAccessRules: readonly Rule[] = inSection('VFIO_USER_DMA_MAP', [
  {
    id: 'dma-access.mmap',
    basis: 'extension',
    says: 'With the flag for mmap (bit 2) the descriptor is used as without it.',
    check: context => {
      const edu = EduDriver.open(context);
      const memory = context.memory(PAGE_BYTES);
      mapAs(edu.peer, 'DMA regions with the flag for mmap', { address: MEMORY, flags: MMAP }, memory);
      writeAt(memory, pattern(64, 3), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + 512n, 64);
      equalBytes(contents(memory, 512, 64), pattern(64, 3), 'what came back');
    },
  },
  {
    id: 'dma-access.mmap-without-descriptor',
    basis: 'extension',
    says: 'The flag for mmap without a descriptor is refused.',
    check: context => void refuseMap(context.session(), { flags: MMAP }, 'the flag for mmap, and no descriptor'),
  },
  {
    id: 'dma-access.file-io-without-descriptor',
    basis: 'extension',
    says: 'The flag for file I/O (bit 3) without a descriptor is refused.',
    check: context => void refuseMap(context.session(), { flags: FILE_IO }, 'the flag for file I/O, and no descriptor'),
  },
  {
    id: 'dma-access.both-without-descriptor',
    basis: 'extension',
    says: 'Both flags without a descriptor are refused.',
    check: context => void refuseMap(context.session(), { flags: MMAP | FILE_IO }, 'both flags, and no descriptor'),
  },
  {
    id: 'dma-access.file-io',
    basis: 'extension',
    says: 'A region by file I/O is read and written in the file, from its offset on, without messages.',
    check: context => {
      const { edu, memory } = openFile(context, 4, { offset: 2n * PAGE, size: 2n * PAGE });
      writeAt(memory, pattern(1000, 9), 0, 1000, 2 * PAGE_BYTES + 3500);
      edu.fetch(MEMORY + 3500n, 1000);
      edu.store(MEMORY + 100n, 1000);
      equalBytes(contents(memory, 2 * PAGE_BYTES + 100, 1000), pattern(1000, 9), 'what came back');
      equal(edu.peer.requests.length, 0, 'requests');
    },
  },
  {
    id: 'dma-access.file-io-not-writable',
    basis: 'extension',
    says: 'A region by file I/O that is not writeable is not written.',
    check: context => {
      const { edu, memory } = openFile(context, 1, { flags: DmaMap.readable | DmaMap.fileIo });
      writeAt(memory, pattern(64, 2), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.store(MEMORY + 512n, 64);
      equalBytes(contents(memory, 512, 64), new Uint8Array(64), 'the memory');
    },
  },
  {
    id: 'dma-access.file-io-after-unmap',
    basis: 'extension',
    says: 'After the reply to an unmap a region by file I/O is not written any more.',
    check: context => {
      const { edu, memory } = openFile(context, 1, {});
      writeAt(memory, pattern(64, 2), 0, 64, 0);
      edu.fetch(MEMORY, 64);
      edu.peer.succeed(Command.dmaUnmap, unmapPayload({ address: MEMORY }));
      edu.store(MEMORY + 1024n, 64);
      equalBytes(contents(memory, 1024, 64), new Uint8Array(64), 'the memory');
    },
  },
  {
    id: 'dma-access.file-io-descriptor-released',
    basis: 'extension',
    says: 'The descriptor of a region by file I/O is closed before the reply to its unmap.',
    check: context => {
      const peer = context.session();
      const memory = context.memory(PAGE_BYTES);
      const before = context.openDescriptors();
      for (let i = 0; i < 10; i++) {
        mapAs(peer, 'DMA regions by file I/O', { flags: FILE_IO }, memory);
        peer.succeed(Command.dmaUnmap, unmapPayload());
      }
      isTrue(context.openDescriptors() <= before, 'descriptors are still open after the reply');
    },
  },
  {
    id: 'dma-access.memory-of-process',
    basis: 'extension',
    says: 'A region by file I/O may be /proc/PID/mem of the client, which has no size and cannot be mapped.',
    check: context =>
      withMemoryOfProcess((memory, { address, bytes }) => {
        const edu = EduDriver.open(context);
        const fields = { address: MEMORY, size: 2n * PAGE, offset: BigInt(address), flags: FILE_IO };
        mapAs(edu.peer, 'DMA regions by file I/O', fields, memory);
        bytes.set(pattern(2000, 7), 100);
        edu.fetch(MEMORY + 100n, 2000);
        edu.store(MEMORY + 3000n, 2000);
        equalBytes(bytes.slice(3000, 5000), pattern(2000, 7), 'what came back');
        edu.peer.succeed(Command.dmaUnmap, unmapPayload({ address: MEMORY, size: 2n * PAGE }));
      }),
  },
  {
    id: 'dma-access.memory-of-process-gone',
    basis: 'robustness',
    says: 'Where the file refuses the access (nothing is at that place of /proc/PID/mem) the transfer fails, and the server goes on.',
    check: context =>
      withMemoryOfProcess(memory => {
        const edu = EduDriver.open(context);
        // The first page of a process is never there.
        mapAs(edu.peer, 'DMA regions by file I/O', { address: MEMORY, flags: FILE_IO }, memory);
        edu.fetch(MEMORY, 64);
        edu.store(MEMORY, 64);
        edu.peer.alive();
      }),
  },
  {
    id: 'dma-access.not-seekable',
    basis: 'robustness',
    says: 'A socket for file I/O is decided on; DMA to it hangs nothing.',
    check: context => {
      const edu = EduDriver.open(context);
      const ends = socketPair();
      try {
        edu.peer.ask(Command.dmaMap, mapPayload({ address: MEMORY, flags: FILE_IO }), { descriptors: [ends[0]] });
        edu.fetch(MEMORY, 64);
        edu.peer.alive();
      } finally {
        for (const end of ends) closeDescriptor(end);
      }
    },
  },
  {
    id: 'dma-access.beyond-file',
    basis: 'robustness',
    says: 'A region by file I/O that reaches beyond its file is decided on; DMA there hangs nothing.',
    check: context => {
      const edu = EduDriver.open(context);
      const fields = { address: MEMORY, size: 2n * PAGE, flags: FILE_IO };
      edu.peer.ask(Command.dmaMap, mapPayload(fields), { descriptors: [context.memory(100)] });
      edu.fetch(MEMORY + PAGE, 64);
      edu.peer.alive();
    },
  },
]);
