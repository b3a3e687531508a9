/** Numbers that a seed determines: the same on every machine, so that a seed and a message number name a run. */

/** Words at which arithmetic of 32 and 64 bits, pages and our own limits have their edges. */
const EDGES: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  4n,
  7n,
  8n,
  15n,
  16n,
  17n,
  31n,
  32n,
  33n,
  255n,
  256n,
  4095n,
  4096n,
  4097n,
  8192n,
  65535n,
  65536n,
  1048575n,
  1048576n,
  1048577n,
  0x7fffffffn,
  0x80000000n,
  0x80000001n,
  0xfee00000n,
  0xfffff000n,
  0xffffffffn,
  0x100000000n,
  1n << 43n,
  (1n << 43n) - 4096n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 4096n,
  (1n << 64n) - 1n,
];

export class Random {
  private a: number;
  private b: number;
  private c: number;
  private counter = 1;

  /** The seed: two words of 32 bits. */
  constructor(high: number, low: number) {
    this.a = high | 0;
    this.b = low | 0;
    this.c = 0x9e3779b9 | 0;
    for (let i = 0; i < 12; i++) this.word();
  }

  /** 32 bits (the generator sfc32). */
  word(): number {
    const sum = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = (((this.c << 21) | (this.c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    return this.word() % limit;
  }

  /** True so many times of a hundred. */
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!;
  }

  wide(): bigint {
    return (BigInt(this.word()) << 32n) | BigInt(this.word());
  }

  /** A number at an edge, or close to one. */
  edge(): bigint {
    const edge = this.pick(EDGES);
    return BigInt.asUintN(64, this.chance(80) ? edge : edge + BigInt(this.below(5)) - 2n);
  }

  /** One of `weights`, by its weight. */
  weighted<T extends string>(weights: Readonly<Record<T, number>>): T {
    const names = Object.keys(weights) as T[];
    let at = this.below(names.reduce((sum, name) => sum + weights[name], 0));
    for (const name of names) {
      at -= weights[name];
      if (at < 0) return name;
    }
    return names[0]!;
  }
}
