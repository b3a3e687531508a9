/** What the parts that answer one translation leave behind for those who tell of it; one object is reused for all. */

/** Of `LastAnswer.failed` where no tables were looked at. */
export const NO_WALK = -1;

export class LastAnswer {
  /** `TranslationSource` of a domain with tables. */
  source = 0;

  /** The answer differs from what a fresh walk says: the fields below tell. Whoever tells of it clears it. */
  stale = false;
  /** `StaleWhat`. */
  staleWhat = 0;
  /** `FreshStatus`. */
  fresh = 0;
  /** -1 where the fresh walk found none. */
  freshFrame = -1;
  freshPermissions = 0;

  /** `WalkStatus` of a walk that failed, or `NO_WALK`. Whoever tells of the fault clears it. */
  failed: number = NO_WALK;
  /** Level of the entry that decided; 0: none did. */
  level = 0;
  entryLow = 0;
  entryHigh = 0;
  /** Where that entry is: page frame, and offset in bytes. */
  entryFrame = 0;
  entryOffset = 0;
  /** Bits of the address that the tables translate. */
  width = 0;

  clear(): void {
    this.stale = false;
    this.failed = NO_WALK;
    this.level = 0;
    this.entryLow = 0;
    this.entryHigh = 0;
    this.entryFrame = 0;
    this.entryOffset = 0;
    this.width = 0;
  }
}
