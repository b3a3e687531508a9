/** What stands behind a fault, in the words that all IOMMUs share. */
import { WalkStatus } from '../../page-tables/walker.ts';
import { FaultCause } from '../../trace/event-kinds.ts';
import { BLOCKED_FAULT } from './choices.ts';
import type { Domain } from './domain.ts';
import { NO_WALK } from './last-answer.ts';
import type { FaultType } from './types.ts';

/** `walked`: how the walk ended that brought it about, or `NO_WALK`. */
export function faultCause(
  domain: Domain | undefined,
  pasid: number,
  type: FaultType,
  walked: number,
): (typeof FaultCause)[keyof typeof FaultCause] {
  if (domain === undefined) return pasid < 0 ? FaultCause.notAttached : FaultCause.noPasid;
  switch (walked) {
    case WalkStatus.notPresent:
      return FaultCause.notPresent;
    case WalkStatus.denied:
      return FaultCause.denied;
    case WalkStatus.badPointer:
      return FaultCause.tableUnreachable;
    case WalkStatus.reserved:
    case WalkStatus.addressSize:
    // Present, but software has to set its access flag before a device that cannot may use it.
    case WalkStatus.accessFlag:
      return FaultCause.malformedEntry;
    case NO_WALK:
      // Else the address was not one that any of the domain's tables is for.
      return type === BLOCKED_FAULT ? FaultCause.blocked : FaultCause.addressTooWide;
    default:
      return FaultCause.addressTooWide;
  }
}
