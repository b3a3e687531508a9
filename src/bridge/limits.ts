/** Every bound of the bridge that the protocol's own limits (vfio-user/limits.ts) do not name. */

/** Vectors of one interrupt index: the most that an MSI-X table has (PCI, section "Message Control Register for MSI-X"). */
export const MAX_VECTORS = 2048;
/** Indexes of PCI functions: INTx, MSI, MSI-X, ERR, REQ (linux/vfio.h, VFIO_PCI_*_IRQ_INDEX). */
export const INTERRUPT_INDEXES = 5;
/** DMA messages of the server that wait because only QEMU reaches that memory, of one client; more are refused. */
export const MAX_CLIENT_DMA_MESSAGES = 4096;
/** Bytes that they write. At least the window of a server that writes ahead. */
export const MAX_CLIENT_DMA_BYTES = 8 * 1048576;
/** Milliseconds that the answer to such a message waits for room towards a server that does not read. */
export const ANSWER_TIMEOUT = 30_000;
/** Interrupts that wait behind such messages, of one client; more are raised at once. At least as many as one index has vectors. */
export const MAX_HELD_INTERRUPTS = 4096;
/** Messages to QEMU that were given up and may still be answered; more end its connection. */
export const MAX_LATE_ANSWERS = 1024;
/** Requests in a row that QEMU left without an answer: then it hangs, and so does whoever uses the function. */
export const MAX_UNANSWERED_IN_A_ROW = 3;
/**
 * Milliseconds that the answer to DMA_UNMAP waits for DMA of these pages that QEMU was asked for before. QEMU answers none while it
 * waits for the DMA_UNMAP itself, and gives that up after 5 seconds.
 */
export const UNMAP_PATIENCE = 1000;
/** Functions of one bridge. */
export const MAX_FUNCTIONS = 256;
