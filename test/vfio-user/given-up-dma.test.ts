/** DMA messages that a client never answers, at the ends of the limits. */
import { afterEach, describe, expect, it } from 'vitest';
import { ETIMEDOUT } from '../../src/vfio-user/dma-messages.ts';
import { settleLimits } from '../../src/vfio-user/limit-settings.ts';
import { limitTable } from '../../src/vfio-user/limit-table.ts';
import { Rig } from './rig.ts';

/** The least that one DMA_READ may ask for. */
const PIECE = limitTable.maxDmaRead.least;

let rig: Rig;
afterEach(() => rig.close());

describe.each(['a unix socket', 'a stream'])('a client over %s that never answers', how => {
  it('is given up in the end, however many messages and however much patience the limits allow', () => {
    const { maxUnanswered, maxDmaMessages, streamDmaMessages, maxDmaBytes, streamDmaBytes, dmaTimeout } = limitTable;
    const limits = settleLimits({
      maxUnanswered: maxUnanswered.most,
      maxDmaMessages: maxDmaMessages.most,
      streamDmaMessages: streamDmaMessages.most,
      maxDmaBytes: maxDmaBytes.most,
      streamDmaBytes: streamDmaBytes.most,
      maxDmaRead: PIECE,
      maxDataTransfer: limitTable.maxDataTransfer.least,
      dmaTimeout: dmaTimeout.least,
      streamDmaTimeout: dmaTimeout.least,
    });
    rig = new Rig(limits);
    const client = how === 'a stream' ? rig.adopted() : rig.client();
    client.onDmaRead = () => undefined;
    const [messages, piece] =
      how === 'a stream' ? [streamDmaMessages.most, limits.maxDataTransfer] : [maxDmaMessages.most, PIECE];
    const bytes = new Uint8Array(messages * piece);
    const transfer = () => rig.job(() => rig.model.client!.dmaRead(0, 0, bytes, 0, bytes.length));
    for (let i = 0; i <= maxUnanswered.most; i++) expect(transfer()).toBe(ETIMEDOUT);
    // A machine under load may have found no room for some.
    for (let i = 0; i < maxUnanswered.most && rig.closeReason() === undefined; i++) transfer();
    expect(rig.closeReason()).toBe('too many DMA messages unanswered');
  });

  it('is given up before the ids run out, where a program allows it more than users may', () => {
    const messages = 4096;
    rig = new Rig({
      maxUnanswered: messages,
      maxDmaMessages: messages,
      streamDmaMessages: messages,
      maxDmaRead: PIECE,
      maxDataTransfer: limitTable.maxDataTransfer.least,
      dmaTimeout: limitTable.dmaTimeout.least,
      streamDmaTimeout: limitTable.dmaTimeout.least,
    });
    const client = how === 'a stream' ? rig.adopted() : rig.client();
    client.onDmaRead = () => undefined;
    const bytes = new Uint8Array(messages * PIECE);
    const transfer = () => rig.job(() => rig.model.client?.dmaRead(0, 0, bytes, 0, bytes.length));
    for (let i = 0; i < 200_000 && rig.closeReason() === undefined; i++) transfer();
    expect(rig.closeReason()).toBe('too many DMA messages unanswered');
  });
});
