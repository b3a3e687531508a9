/** The handshake as the specification has it. */
import { CapabilityDefault, Version } from '../../src/vfio-user/spec.ts';

const LONGEST_VERSION_DATA = 4096;
/** What the server sends with one message. */
const MAX_DESCRIPTORS = 16;

export interface Verdict {
  readonly verdict: 'good' | 'bad' | 'open';
  readonly maxTransfer: number;
  readonly writeMultiple: boolean;
  /** Descriptors that the client takes with one message. */
  readonly descriptors: number;
  /** What the server asks comes over a stream of its own. */
  readonly twin: boolean;
}

/** Good, bad, or a matter of how much is asked of fields that nobody needs. */
export function judgeVersion(payload: DataView): Verdict {
  const maxTransfer: number = CapabilityDefault.maxDataXferSize;
  const defaults = { maxTransfer, writeMultiple: false, descriptors: CapabilityDefault.maxMsgFds, twin: false };
  const bad: Verdict = { verdict: 'bad', ...defaults };
  if (payload.byteLength < Version.bytes || payload.getUint16(Version.majorAt, true) !== Version.major) return bad;
  const data = new Uint8Array(payload.buffer, payload.byteOffset + Version.bytes, payload.byteLength - Version.bytes);
  if (data.length === 0) return { verdict: 'good', ...defaults };
  if (data.length > LONGEST_VERSION_DATA || data.indexOf(0) !== data.length - 1) return bad;
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(0, -1));
    const top = JSON.parse(text) as Record<string, unknown> | null;
    if (typeof top !== 'object' || top === null || Array.isArray(top)) return bad;
    const { capabilities = {} } = top as { capabilities?: Record<string, unknown> };
    const asked = capabilities?.max_data_xfer_size;
    const isNumber = typeof asked === 'number' && Number.isSafeInteger(asked) && asked > 0;
    const named = capabilities?.max_msg_fds;
    const isCount = typeof named === 'number' && Number.isSafeInteger(named) && named >= 0;
    const descriptors = isCount ? Math.min(named, MAX_DESCRIPTORS) : CapabilityDefault.maxMsgFds;
    const twin = (capabilities?.twin_socket as { supported?: unknown } | undefined)?.supported === true;
    return {
      verdict: text === GOOD_VERSION || text === TWIN_VERSION ? 'good' : 'open',
      maxTransfer: isNumber ? asked : maxTransfer,
      writeMultiple: capabilities?.write_multiple === true,
      descriptors,
      twin: twin && descriptors > 0,
    };
  } catch {
    return bad;
  }
}

const PROPOSAL = {
  pgsizes: 4096,
  max_msg_fds: 16,
  max_dma_maps: 65535,
  max_data_xfer_size: 1048576,
  migration: { max_bitmap_size: 268435456, pgsize: 4096 },
  write_multiple: true,
} as const;

/** As QEMU proposes. */
export const GOOD_VERSION = JSON.stringify({ capabilities: PROPOSAL });
/** The same, with a stream of its own for what the server asks. */
export const TWIN_VERSION = JSON.stringify({ capabilities: { ...PROPOSAL, twin_socket: { supported: true } } });

export function checkVersion(reply: Uint8Array, twin: boolean): string | undefined {
  if (reply.length < Version.bytes) return `${reply.length} bytes`;
  const view = new DataView(reply.buffer, reply.byteOffset, reply.length);
  if (view.getUint16(Version.majorAt, true) !== 0 || view.getUint16(Version.minorAt, true) !== 0)
    return 'another version';
  const data = reply.subarray(Version.bytes);
  if (data.length === 0) return twin ? 'no second stream' : undefined;
  if (data.indexOf(0) !== data.length - 1) return 'version data that does not end with its NUL';
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(data.subarray(0, -1));
    const { capabilities } = JSON.parse(text) as { capabilities?: { twin_socket?: unknown } };
    const said = JSON.stringify(capabilities?.twin_socket);
    const right = twin ? '{"supported":true,"fd_index":0}' : undefined;
    return said === right ? undefined : `twin_socket is ${said}, not ${right}`;
  } catch (error) {
    return `version data that is no JSON: ${(error as Error).message}`;
  }
}
