/** Says in one sentence what a long step is doing; the command line prints it, tests collect it. */
export type Progress = (message: string) => void;

/** A size for people: decimal megabytes, one place below ten. */
export function megabytes(bytes: number): string {
  const value = bytes / 1e6;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} MB`;
}
