/** Which pages a device wrote, as the server logs them: seen at a device that can be told to write. */
import { Command, DmaLogging, DmaReport, Feature } from '../../spec.ts';
import type { Context } from '../context.ts';
import { EduDriver, MEMORY } from '../edu-driver.ts';
import type { Peer } from '../peer.ts';
import { isFailed } from '../peer.ts';
import { equal, equalBytes, inSection, isTrue, notOffered, type Rule } from '../rule.ts';
import { concat, mapPayload, PAGE, viewOf, words } from '../wire.ts';
import { GET, PROBE, SET } from './migration-steps.ts';

const { deviceFeature } = Command;
const PAGES = 16n;
const BYTES = PAGES * PAGE;
const REPORT = 8 + DmaReport.bytes;

/** The device, and 16 pages of memory in a file; skips the rule where nothing is logged. */
function open(context: Context): EduDriver {
  const edu = EduDriver.open(context);
  const probe = words(8, Feature.loggingStart | SET | PROBE);
  if (isFailed(edu.peer.ask(deviceFeature, probe))) notOffered('logging of DMA');
  const region = mapPayload({ address: MEMORY, size: BYTES });
  edu.peer.succeed(Command.dmaMap, region, { descriptors: [context.memory(Number(BYTES))] });
  return edu;
}

function startRequest(pageSize: bigint): Uint8Array {
  const payload = concat(words(8 + DmaLogging.bytes, Feature.loggingStart | SET), new Uint8Array(DmaLogging.bytes));
  viewOf(payload).setBigUint64(8 + DmaLogging.pageSize, pageSize, true);
  return payload;
}

function start(peer: Peer): void {
  peer.succeed(deviceFeature, startRequest(PAGE));
}

function stop(peer: Peer): void {
  peer.succeed(deviceFeature, words(8, Feature.loggingStop | SET));
}

function reportRequest(pageSize: bigint, room = 8): Uint8Array {
  const payload = concat(words(REPORT + room, Feature.loggingReport | GET), new Uint8Array(DmaReport.bytes));
  const view = viewOf(payload);
  view.setBigUint64(8 + DmaReport.address, MEMORY, true);
  view.setBigUint64(8 + DmaReport.length, BYTES, true);
  view.setBigUint64(8 + DmaReport.pageSize, pageSize, true);
  return payload;
}

/** The one word of the bitmap of all 16 pages. */
function report(peer: Peer, pageSize = PAGE): bigint {
  const request = reportRequest(pageSize);
  const { payload } = peer.succeed(deviceFeature, request);
  equal(payload.length, REPORT + 8, 'bytes of the reply');
  equal(viewOf(payload).getUint32(0, true), payload.length, 'argsz');
  equalBytes(payload.subarray(4, REPORT), request.subarray(4, REPORT), 'what comes before the bitmap');
  return viewOf(payload).getBigUint64(REPORT, true);
}

function binary(bits: bigint): string {
  return `0b${bits.toString(2)}`;
}

function logged(peer: Peer, expected: bigint, pageSize = PAGE): void {
  equal(binary(report(peer, pageSize)), binary(expected), 'the bitmap');
}

/** Logging is over afterwards: the next client begins without. */
function logging(context: Context, work: (edu: EduDriver) => void): void {
  const edu = open(context);
  start(edu.peer);
  try {
    work(edu);
  } finally {
    if (!edu.peer.ended) edu.peer.ask(deviceFeature, words(8, Feature.loggingStop | SET));
  }
}

export const dmaLoggingRules: readonly Rule[] = inSection('VFIO_USER_DEVICE_FEATURE', [
  {
    id: 'dma-logging.start-echo',
    basis: 'specification',
    says: 'The reply to starting is its request, but for the page size that the device chose.',
    check: context =>
      logging(context, ({ peer }) => {
        stop(peer);
        const { payload } = peer.succeed(deviceFeature, startRequest(PAGE));
        equal(payload.length, 8 + DmaLogging.bytes, 'bytes of the reply');
        equalBytes(payload.subarray(16), startRequest(PAGE).subarray(16), 'ranges');
        isTrue(viewOf(payload).getBigUint64(8 + DmaLogging.pageSize, true) > 0n, 'the page size is 0');
      }),
  },
  {
    id: 'dma-logging.clean-at-first',
    basis: 'specification',
    says: 'What was not written is not in the bitmap.',
    check: context => logging(context, ({ peer }) => logged(peer, 0n)),
  },
  {
    id: 'dma-logging.written',
    basis: 'specification',
    says: 'A page that the device wrote has its bit, in the order of the addresses.',
    check: context =>
      logging(context, edu => {
        edu.store(MEMORY + 3n * PAGE + 100n, 8);
        edu.store(MEMORY + 15n * PAGE, 64);
        logged(edu.peer, (1n << 3n) | (1n << 15n));
      }),
  },
  {
    id: 'dma-logging.across-pages',
    basis: 'specification',
    says: 'A write across two pages sets the bits of both.',
    check: context =>
      logging(context, edu => {
        edu.store(MEMORY + 6n * PAGE - 4n, 8);
        logged(edu.peer, 0b11n << 5n);
      }),
  },
  {
    id: 'dma-logging.reads-are-not',
    basis: 'specification',
    says: 'Only writes are logged.',
    check: context =>
      logging(context, edu => {
        edu.fetch(MEMORY, 256);
        logged(edu.peer, 0n);
      }),
  },
  {
    id: 'dma-logging.read-and-cleared',
    basis: 'linux-vfio',
    says: 'A report clears what it reports.',
    check: context =>
      logging(context, edu => {
        edu.store(MEMORY, 8);
        logged(edu.peer, 1n);
        logged(edu.peer, 0n);
      }),
  },
  {
    id: 'dma-logging.larger-pages',
    basis: 'specification',
    says: 'The page size of a report need not be that of the start: a larger page has a bit where a part of it was written.',
    check: context =>
      logging(context, edu => {
        edu.store(MEMORY + 5n * PAGE, 8);
        logged(edu.peer, 1n << 2n, 2n * PAGE);
      }),
  },
  {
    id: 'dma-logging.page-size-odd',
    basis: 'specification',
    says: 'The page size of a report is a power of two.',
    check: context =>
      logging(context, ({ peer }) => {
        peer.refuse(deviceFeature, reportRequest(3n * PAGE, 64), 'pages of 12288 bytes');
      }),
  },
  {
    id: 'dma-logging.no-room',
    basis: 'robustness',
    says: 'A report whose bitmap does not fit in argsz is refused, or left out.',
    check: context =>
      logging(context, ({ peer }) => {
        const { payload } = peer.ask(deviceFeature, reportRequest(PAGE, 0));
        isTrue(payload.length <= REPORT, `${payload.length} bytes came where argsz was ${REPORT}`);
        peer.alive();
      }),
  },
  {
    id: 'dma-logging.stopped',
    basis: 'specification',
    says: 'After logging was stopped there is nothing to report.',
    check: context =>
      logging(context, edu => {
        edu.store(MEMORY, 8);
        stop(edu.peer);
        edu.peer.refuse(deviceFeature, reportRequest(PAGE), 'logging that was stopped');
      }),
  },
  {
    id: 'dma-logging.begins-anew',
    basis: 'specification',
    says: 'What was written before logging was started is not in the bitmap.',
    check: context =>
      logging(context, edu => {
        edu.store(MEMORY, 8);
        stop(edu.peer);
        edu.store(MEMORY + PAGE, 8);
        start(edu.peer);
        edu.store(MEMORY + 2n * PAGE, 8);
        logged(edu.peer, 1n << 2n);
      }),
  },
]);
