/**
 * DEVICE_FEATURE and migration data. A change of state may take until other work is done, so where a function is can be told only as a
 * set of places where it may be; a reset, or that all was answered, makes it one place again.
 */
import { DeviceFeature, DmaLogging, DmaReport, Feature, MigrationData } from '../../src/vfio-user/spec.ts';
import { Errno, type Expectation, type FunctionFacts } from './expectation.ts';
import { empty, isPowerOfTwo, repeats } from './reference-checks.ts';
import { MAX_TRANSFER } from './reference-regions.ts';

const State = { error: 0, stop: 1, running: 2, stopCopy: 3, resuming: 4 } as const;
/** On the way from RUNNING to a state: that state and this. */
const CHANGING = 16;
const SMALLEST_PAGE = 4096n;
const LARGEST_BITMAP = 524288n;
const MOST_RANGES = 1024;
const MOST_DATA = 64 * 1048576;

type Outcome = Pick<Expectation, 'errnos' | 'check' | 'later'>;
const invalid: Outcome = { errnos: [Errno.EINVAL] };

export class ReferenceMigration {
  /** Undefined: it may be on or off. */
  private logging: boolean | undefined = false;
  private places: ReadonlySet<number> = new Set([State.running]);
  /** Errnos of changes that may be under way. */
  private underWay: number[][] = [];
  /** Of one nobody hears when it is done. */
  private isUnheard = false;
  private written = 0;

  constructor(private readonly facts: FunctionFacts) {}

  reset(): void {
    for (const errnos of this.underWay) errnos.push(Errno.EIO);
    this.underWay = [];
    this.isUnheard = false;
    this.places = new Set([State.running]);
    this.logging = this.logging === false ? false : undefined;
  }

  /** Everything was answered. */
  settle(): void {
    this.underWay = [];
    if (!this.isUnheard) this.places = new Set([...this.places].map(place => place & ~CHANGING));
  }

  feature(payload: DataView, silent: boolean): Outcome {
    if (payload.byteLength < DeviceFeature.bytes) return invalid;
    const flags = payload.getUint32(DeviceFeature.flags, true);
    const { get, set, probe, indexMask } = DeviceFeature;
    const feature = flags & indexMask;
    if ((flags & ~(indexMask | get | set | probe)) !== 0) return { errnos: [Errno.EINVAL, Errno.ENOTTY] };
    const methods = this.methods(feature);
    const room = payload.getUint32(DeviceFeature.argsz, true);
    if (methods === 0) return { errnos: [Errno.ENOTTY] };
    const wants = flags & (get | set);
    if ((wants & ~methods) !== 0 || room < DeviceFeature.bytes) return invalid;
    if ((flags & probe) !== 0) return { errnos: [0], check: reply => repeats(reply, payload, 4, DeviceFeature.bytes) };
    if (wants !== get && wants !== set) return invalid;
    switch (feature) {
      case Feature.migration:
        return room < 16
          ? invalid
          : { errnos: [0], check: reply => this.head(reply, payload, 16) ?? told(reply, 8, 1) };
      case Feature.deviceState:
        if (wants === get) return this.tellState(payload, room);
        return room < 16 ? invalid : this.change(payload, silent);
      case Feature.loggingStart:
        return this.startLogging(payload);
      case Feature.loggingStop:
        this.logging = false;
        return { errnos: [0], check: reply => this.head(reply, payload, DeviceFeature.bytes) };
      default:
        return this.report(payload, room);
    }
  }

  dataRead(payload: DataView): Outcome {
    if (payload.byteLength < MigrationData.bytes) return invalid;
    if (!this.facts.migrates) return { errnos: [Errno.ENOTSUP] };
    const size = payload.getUint32(MigrationData.size, true);
    if (size > MAX_TRANSFER || payload.getUint32(0, true) < MigrationData.bytes + size) return invalid;
    return {
      errnos: this.only(State.stopCopy),
      check: reply => {
        const count = reply.length - MigrationData.bytes;
        if (count < 0 || count > size) return `${reply.length} bytes, where ${size} were asked for`;
        return told(reply, 0, reply.length) ?? told(reply, MigrationData.size, count);
      },
    };
  }

  dataWrite(payload: DataView): Outcome {
    if (payload.byteLength < MigrationData.bytes) return invalid;
    if (!this.facts.migrates) return { errnos: [Errno.ENOTSUP] };
    const size = payload.getUint32(MigrationData.size, true);
    if (size > MAX_TRANSFER || size !== payload.byteLength - MigrationData.bytes) return invalid;
    const errnos = this.only(State.resuming);
    this.written += size;
    return { errnos: this.written > MOST_DATA ? [...errnos, Errno.E2BIG] : errnos, check: empty };
  }

  /** What a feature can do; 0: it is not there. */
  private methods(feature: number): number {
    const { get, set } = DeviceFeature;
    const { migrates = false, logs = false } = this.facts;
    if (feature === Feature.migration) return migrates ? get : 0;
    if (feature === Feature.deviceState) return migrates ? get | set : 0;
    if (feature === Feature.loggingStart || feature === Feature.loggingStop) return logs ? set : 0;
    return feature === Feature.loggingReport && logs ? get : 0;
  }

  /** Of what can be done in one state. */
  private only(state: number): number[] {
    const places = this.mayBe();
    const errnos: number[] = [];
    if (places.has(state)) errnos.push(0);
    if (places.size > 1 || !places.has(state)) errnos.push(Errno.EINVAL);
    return errnos;
  }

  /** What is under way may be done. */
  private mayBe(): Set<number> {
    return new Set([...this.places].flatMap(place => [place, place & ~CHANGING]));
  }

  private tellState(payload: DataView, room: number): Outcome {
    if (room < 16) return invalid;
    const states = new Set([...this.mayBe()].map(place => ((place & CHANGING) !== 0 ? State.running : place)));
    return {
      errnos: [0],
      check: reply => {
        const wrong = this.head(reply, payload, 16);
        if (wrong !== undefined) return wrong;
        const state = new DataView(reply.buffer, reply.byteOffset).getUint32(8, true);
        return states.has(state) ? undefined : `the state ${state}, not ${[...states].join(' or ')}`;
      },
    };
  }

  private change(payload: DataView, silent: boolean): Outcome {
    if (payload.byteLength < 16) return invalid;
    const target = payload.getUint32(8, true);
    const dataFd = payload.getUint32(12, true);
    const isState = target >= State.stop && target <= State.resuming;
    const places = new Set<number>();
    const errnos = new Set<number>();
    let later = false;
    for (const place of this.mayBe()) {
      if ((place & CHANGING) !== 0) {
        errnos.add(Errno.EBUSY);
        places.add(place);
      } else if (!isState || place === State.error) {
        errnos.add(Errno.EINVAL);
        places.add(place);
      } else {
        errnos.add(0);
        if (place === State.running && target !== place) {
          later = true;
          places.add(target | CHANGING);
        } else places.add(target);
        if (place === State.resuming && target !== place) {
          errnos.add(Errno.EINVAL);
          places.add(State.error);
        }
      }
    }
    this.places = places;
    const all = [...errnos];
    if (later) {
      this.underWay.push(all);
      this.isUnheard ||= silent;
    }
    return {
      errnos: all,
      later,
      check: reply => this.head(reply, payload, 16) ?? told(reply, 8, target) ?? told(reply, 12, dataFd),
    };
  }

  private startLogging(payload: DataView): Outcome {
    const at = DeviceFeature.data;
    if (payload.byteLength < at + DmaLogging.bytes) return invalid;
    const pageSize = payload.getBigUint64(at + DmaLogging.pageSize, true);
    const count = payload.getUint32(at + DmaLogging.rangeCount, true);
    const end = at + DmaLogging.bytes + count * DmaLogging.rangeBytes;
    if (!isPowerOfTwo(pageSize) || count > MOST_RANGES || payload.byteLength < end) return invalid;
    for (let range = at + DmaLogging.bytes; range < end; range += DmaLogging.rangeBytes) {
      if (!isRange(payload, range)) return invalid;
    }
    this.logging = true;
    return {
      errnos: [0],
      check: reply => {
        const wrong = this.head(reply, payload, end) ?? repeats(reply, payload, at + DmaLogging.rangeCount, end);
        if (wrong !== undefined) return wrong;
        const chosen = new DataView(reply.buffer, reply.byteOffset).getBigUint64(at, true);
        return chosen === (pageSize < SMALLEST_PAGE ? SMALLEST_PAGE : pageSize)
          ? undefined
          : `pages of ${chosen} bytes`;
      },
    };
  }

  private report(payload: DataView, room: number): Outcome {
    const at = DeviceFeature.data;
    if (payload.byteLength < at + DmaReport.bytes) return invalid;
    const pageSize = payload.getBigUint64(at + DmaReport.pageSize, true);
    const length = payload.getBigUint64(at + DmaReport.length, true);
    if (!isPowerOfTwo(pageSize) || !isRange(payload, at) || this.logging === false) return invalid;
    const pages = (length + pageSize - 1n) / pageSize;
    const bytes = ((pages + 63n) / 64n) * 8n;
    const start = at + DmaReport.bytes;
    if (bytes > LARGEST_BITMAP || BigInt(room) < BigInt(start) + bytes) return invalid;
    const end = start + Number(bytes);
    return {
      errnos: this.logging === true ? [0] : [0, Errno.EINVAL],
      check: reply => {
        const wrong = this.head(reply, payload, end) ?? repeats(reply, payload, at, start, end);
        if (wrong !== undefined) return wrong;
        for (let bit = Number(pages); bit < 8 * Number(bytes); bit++) {
          if (((reply[start + (bit >> 3)]! >> (bit & 7)) & 1) !== 0)
            return `page ${bit} of ${pages} is said to be written`;
        }
        return undefined;
      },
    };
  }

  /** Size, and flags as they were asked. */
  private head(reply: Uint8Array, payload: DataView, size: number): string | undefined {
    if (reply.length !== size) return `a payload of ${reply.length} bytes, not ${size}`;
    return told(reply, DeviceFeature.argsz, size) ?? repeats(reply, payload, DeviceFeature.flags, 8, size);
  }
}

function told(reply: Uint8Array, at: number, word: number): string | undefined {
  const said = new DataView(reply.buffer, reply.byteOffset, reply.length).getUint32(at, true);
  return said === word ? undefined : `${said} at offset ${at} of the payload, not ${word}`;
}

function isRange(payload: DataView, at: number): boolean {
  const length = payload.getBigUint64(at + 8, true);
  return length > 0n && payload.getBigUint64(at, true) + length <= 1n << 64n;
}
