/** What each view asks of the machine while it is shown. What is not in here costs the machine nothing. */
import { EventClass } from '../../../trace/event-kinds.ts';
import type { Route } from '../route.ts';
import { classMask, filterFromArgs } from './trace-filter.ts';

export interface Needs {
  /** `EventClass` bits. */
  readonly classes: number;
  readonly statistics: boolean;
  readonly mappings: boolean;
}

const { register, dma, mapping, attach, fault, interrupt } = EventClass;

export function needsOf({ view, args }: Route, measuresLatency: boolean): Needs {
  switch (view) {
    case 'overview':
      return { classes: 0, statistics: true, mappings: true };
    case 'space':
      return { classes: dma | mapping | attach | fault, statistics: false, mappings: true };
    case 'rates':
      return { classes: measuresLatency ? register | dma | fault | interrupt : 0, statistics: true, mappings: false };
    case 'findings':
      return { classes: 0, statistics: false, mappings: false };
    case 'tables':
      return { classes: 0, statistics: false, mappings: true };
    case 'registers':
      return { classes: 0, statistics: false, mappings: false };
    case 'trace':
      return { classes: classMask(filterFromArgs(args).classes), statistics: false, mappings: false };
  }
}
