/**
 * REGION_WRITE_MULTI: many small writes in one message. It stands for as many REGION_WRITEs, so each is done or refused by itself, in
 * order; a message whose form is wrong does nothing at all.
 */
import { Errno } from './device-model.ts';
import type { Reply, Request } from './messages.ts';
import type { ServedClient } from './served-client.ts';
import { commandName, RegionWriteMulti } from './spec.ts';

const TWO_TO_32 = 0x100000000;
// The hot path's own names: the compiler folds constants of this file, and loads those of others each time.
const OK = Errno.ok;
const WRITES = RegionWriteMulti.writes;
const EACH = RegionWriteMulti.each;
const OFFSET = RegionWriteMulti.offset;
const REGION = RegionWriteMulti.region;
const LENGTH = RegionWriteMulti.length;
const DATA = RegionWriteMulti.data;
const LONGEST = RegionWriteMulti.longest;

export function regionWriteMulti(client: ServedClient, request: Request, reply: Reply): number {
  if (!client.terms.writeMultiple) return Errno.ENOTSUP;
  const count = countOf(request, client.limits.maxCoalescedWrites);
  if (count < 0) return Errno.EINVAL;
  let done = 0;
  let failure: number = OK;
  for (let i = 0; i < count; i++) {
    const errno = write(client, request, request.at + WRITES + EACH * i);
    if (errno === OK) done++;
    else if (failure === OK) failure = errno;
  }
  if (failure !== OK && done > 0) note(client, request, failure, count - done);
  if (failure !== OK && done === 0) return failure;
  reply.setU32(RegionWriteMulti.count, done);
  reply.setU32(RegionWriteMulti.count + 4, 0);
  reply.length = RegionWriteMulti.bytes;
  return OK;
}

/** -1 where the message is not what it says, or has a write of more than 8 bytes. */
function countOf({ view, at, length }: Request, most: number): number {
  const count = view.getUint32(at, true);
  if (view.getUint32(at + 4, true) !== 0 || count > most || length !== WRITES + EACH * count) return -1;
  for (let i = 0; i < count; i++) {
    if (view.getUint32(at + WRITES + EACH * i + LENGTH, true) > LONGEST) return -1;
  }
  return count;
}

function write(client: ServedClient, { view, bytes }: Request, at: number): number {
  const offset = view.getUint32(at + OFFSET + 4, true) * TWO_TO_32 + view.getUint32(at + OFFSET, true);
  const index = view.getUint32(at + REGION, true);
  const length = view.getUint32(at + LENGTH, true);
  const region = client.model.regions[index];
  if (region?.writable !== true || offset + length > region.size) return Errno.EINVAL;
  return length === 0 ? OK : client.model.write(index, offset, bytes, at + DATA, length);
}

function note(client: ServedClient, { command }: Request, errno: number, writes: number): void {
  client.note('message.refused', { command: commandName(command), errno, writes });
}
