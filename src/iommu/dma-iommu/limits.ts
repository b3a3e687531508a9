/** Every limit of the unit. What hits one is answered with STATUS_INSUFFICIENT_RESOURCES unless said otherwise, and noted. */

/** Live objects of all kinds together. */
export const OBJECTS_MAX = 1 << 20;
/** As many as there are 16-bit ASIDs. */
export const DOMAINS_MAX = 65536;
/** Handles count on up to here before the first is given out again. */
export const HANDLE_MAX = 2 ** 30 - 1;
/** Pages of one map or reserve operation: 64 GiB. */
export const OPERATION_PAGES_MAX = 1 << 24;
/** Reserved regions of one domain. */
export const RESERVED_REGIONS_MAX = 1024;
/** Ranges that domains and tokens keep, of the whole unit: about 80 bytes each. */
export const RANGES_MAX = 1 << 19;
/** Nodes of buddy allocators beyond the first few of each, of the whole unit: 9 bytes each. */
export const BUDDY_NODES_MAX = 1 << 20;
/** Domains, attachments, devices, tokens and ranges that one snapshot lists; it counts what it leaves out. */
export const SNAPSHOT_ENTRIES_MAX = 1 << 17;
/** Ids are requester ids on the way, and these have 16 bits. */
export const STREAMS = 65536;
/** PASIDs have 20 bits (PCI Express 6.0, 6.20). */
export const PASID_MAX = (1 << 20) - 1;
/** Faults that wait for their handler; more are counted and dropped. */
export const FAULTS_PENDING_MAX = 256;
/** The tables that we build have four levels. */
export const LOGICAL_ADDRESS_BITS = 48;
export const LOGICAL_PAGES = 2 ** (LOGICAL_ADDRESS_BITS - 12);
/** A page frame is a non-negative int32: 8 TiB. */
export const PHYSICAL_FRAMES = 2 ** 31;
