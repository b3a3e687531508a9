/** Two 32-bit words, of either signedness, as an unsigned one of 64: for events and for people. */
export function address64(high: number, low: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
