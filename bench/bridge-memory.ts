/** Of each client in the bridge's benchmark. */
export const MEMORY_BYTES = 64 << 20;
