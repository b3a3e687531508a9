/** Exit statuses of every command. */
export const ExitStatus = {
  ok: 0,
  /** The command did what it was asked, and the answer is no: a case failed, a guest ended badly. */
  failed: 1,
  /** The command line or a description is wrong. */
  usage: 2,
  /** The sanitizer found what --fail-on names, or what was to stop the machine. */
  findings: 3,
  /** Ended by SIGINT, as shells report it. */
  interrupted: 130,
  /** Ended by SIGTERM, as shells report it. */
  terminated: 143,
} as const;

/** A mistake that its user can mend: printed as it is, without a stack. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Something outside went wrong and the message says what to do about it: printed as it is, without a stack. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
}
