/** What every measurement yields: ours beside its floor, the least that the machine allows, measured in the same run. */
export interface BenchResult {
  readonly name: string;
  /** Medians of interleaved rounds, in `unit`. */
  readonly ours: number;
  readonly floor: number;
  /** A time; less is better. */
  readonly unit: string;
  /** Our speed as a share of the floor's: floor / ours. */
  readonly ratio: number;
  /** The least `ratio` that is claimed. */
  readonly goal?: number;
}

export function result(name: string, unit: string, ours: number[], floor: number[], goal?: number): BenchResult {
  const mine = median(ours);
  const least = median(floor);
  return { name, ours: mine, floor: least, unit, ratio: least / mine, ...(goal === undefined ? {} : { goal }) };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

export function formatResult({ name, ours, floor, unit, ratio, goal }: BenchResult): string {
  const met = goal === undefined || ratio >= goal;
  const claim = goal === undefined ? '' : `  goal ${goal.toFixed(2)} ${met ? 'met' : 'MISSED'}`;
  const figures = `${ours.toFixed(1).padStart(9)} ${unit}  floor ${floor.toFixed(1).padStart(8)}  ${ratio.toFixed(2)} of its speed`;
  return `${name.padEnd(44)} ${figures}${claim}`;
}
