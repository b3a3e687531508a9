/** What the rules of this section have in common. */
import { IrqSet } from '../../spec.ts';

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IrqSet;
export const TRIGGER_BY_EVENTFD = dataEventfd | actionTrigger;

/** What makes a SET_IRQS one that must be refused. The device need not have any vectors for these. */
export const MALFORMED: readonly [id: string, says: string, flags: number][] = [
  ['no-flags', 'A SET_IRQS without flags is refused.', 0],
  ['no-data', 'A SET_IRQS without a data flag is refused.', actionTrigger],
  ['no-action', 'A SET_IRQS without an action flag is refused.', dataNone],
  ['two-data', 'Data flags exclude each other: none and bool.', dataNone | dataBool | actionTrigger],
  ['two-data-eventfd', 'Data flags exclude each other: none and eventfd.', dataNone | dataEventfd | actionTrigger],
  ['all-data', 'Data flags exclude each other: all three.', 7 | actionTrigger],
  ['two-actions', 'Action flags exclude each other: mask and unmask.', dataNone | actionMask | actionUnmask],
  ['two-actions-trigger', 'Action flags exclude each other: mask and trigger.', dataNone | actionMask | actionTrigger],
  ['all-actions', 'Action flags exclude each other: all three.', dataNone | 56],
];
