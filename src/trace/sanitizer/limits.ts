/** How much the sanitizer remembers. What a guest can make it store is bounded by these; where one is hit, explanations say so. */

/** Findings of one detector about one device that are kept; further ones are counted. */
export const MAX_FINDINGS_PER_DEVICE = 50;
/** Findings of one detector about all devices together: a guest can make up requester ids. So no detector takes another one's room. */
export const MAX_FINDINGS_PER_DETECTOR = 200;
/** Pieces of evidence of one finding. */
export const MAX_EVIDENCE = 12;
/** Live mappings of all domains together. */
export const MAX_LIVE_MAPPINGS = 131_072;
/** Mappings that are gone: the latest. */
export const MAX_PAST_MAPPINGS = 32_768;
/** Invalidations: the latest. */
export const MAX_INVALIDATIONS = 4096;
/** Attachments at one time, PASIDs counted one by one. */
export const MAX_ATTACHMENTS = 16_384;
/** Attachments that are gone: the latest. */
export const MAX_DETACHMENTS = 1024;
/** Domains of which is remembered when nobody used them any more: the latest. */
export const MAX_ENDED_DOMAINS = 4096;
/** Stale answers that wait for an invalidation. */
export const MAX_SUSPICIONS = 256;
/** Memory regions of a machine, each counted once however many functions announce it. */
export const MAX_MEMORY_REGIONS = 4096;
/** Context entries of other requesters that are told beside one fault. */
export const MAX_CONTEXTS = 8;
/** Devices of which is remembered that they dropped bits of an address. */
export const MAX_MASKED_ADDRESSES = 1024;
/** Domains that are known to be mapped by operations. */
export const MAX_OPERATED_DOMAINS = 16_384;
/** Sources whose last reset is remembered. */
export const MAX_RESETS = 1024;
/** Mappings that a finding names one by one. */
export const MAX_EXAMPLES = 3;
/** Neighbouring mappings that are looked at to say where a mapped range ends. */
export const MAX_EXTENT_STEPS = 4096;
/** How long a stale answer waits for an invalidation, unless the caller says otherwise: nanoseconds. */
export const DEFAULT_GRACE_NANOSECONDS = 100_000_000;
