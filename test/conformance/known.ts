/** Rules that our server breaks, with the reason. A fix makes their tests fail: then the rule leaves this list. */
export interface Broken {
  readonly why: string;
  /** The rule can be seen at a device that does DMA alone. */
  readonly needsDma: boolean;
}

const SMALL_SPACE = 'memory is known up to 8 TiB: frames are non-negative int32';

export const broken: Readonly<Record<string, Broken>> = {
  'connection.state-retained': {
    why: 'on purpose: a QEMU that connects expects a function at power-on, and the VT-d function must be visible again',
    needsDma: false,
  },
  'dma-map.46-bits': { why: SMALL_SPACE, needsDma: false },
  'dma-map.52-bits': { why: SMALL_SPACE, needsDma: false },
  'dma-map.last-page': { why: SMALL_SPACE, needsDma: false },
  'dma-write.reply-of-12-bytes': {
    why: 'on purpose: clients that count in 4 bytes expect the data 4 bytes earlier too, and would corrupt guest memory',
    needsDma: true,
  },
};

/** Rules that nothing of ours can show, with what they need. */
export const unseen: Readonly<Record<string, string>> = {
  'migration-state.pre-copy': 'a device with PRE_COPY',
  'write-multi.not-supported': 'a server without write_multiple',
};
