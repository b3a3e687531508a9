/** The server did something that the specification does not allow. */
export class FuzzFailure extends Error {
  override readonly name = 'FuzzFailure';

  constructor(
    message: string,
    /** `vtd/edu0`, or the process. */
    readonly where: string,
  ) {
    super(`${where}: ${message}`);
  }
}
