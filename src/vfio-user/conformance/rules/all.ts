import type { Rule } from '../rule.ts';
import { connectionRules } from './connection.ts';
import { deliveryRules } from './delivery.ts';
import { deviceInfoRules, resetRules } from './device-info.ts';
import { deviceInterruptRules, directMemoryRules } from './direct-memory.ts';
import { dmaLoggingRules } from './dma-logging.ts';
import { dmaMapRules } from './dma-map.ts';
import { dmaMapAccessRules } from './dma-map-access.ts';
import { dmaMapRefusedRules } from './dma-map-refused.ts';
import { dmaReadRules } from './dma-read.ts';
import { dmaReadReplyRules } from './dma-read-replies.ts';
import { dmaUnmapRules } from './dma-unmap.ts';
import { dmaWriteRules } from './dma-write.ts';
import { headerRules } from './header.ts';
import { irqInfoRules } from './irq-info.ts';
import { migrationDataRules, migrationStateRules } from './migration-states.ts';
import { ioEventFdRules, mappingRules, twinSocketRules } from './offers.ts';
import { featureRules, migrationRules, writeMultiRules } from './optional.ts';
import { regionInfoRules, regionIoFdsRules } from './region-info.ts';
import { regionReadRules } from './region-read.ts';
import { regionWriteRules } from './region-write.ts';
import { setIrqsRules } from './set-irqs.ts';
import { setIrqsRefusedRules } from './set-irqs-refused.ts';
import { signalRules } from './signals.ts';
import { versionRules } from './version.ts';
import { versionDataRules } from './version-data.ts';
import { writeMultiAgreedRules } from './write-multi.ts';

/** Every rule, in the order of the specification. */
export const allRules: readonly Rule[] = [
  ...deliveryRules,
  ...connectionRules,
  ...headerRules,
  ...versionRules,
  ...versionDataRules,
  ...twinSocketRules,
  ...dmaMapRules,
  ...dmaMapRefusedRules,
  ...directMemoryRules,
  ...dmaMapAccessRules,
  ...dmaUnmapRules,
  ...deviceInfoRules,
  ...regionInfoRules,
  ...mappingRules,
  ...regionIoFdsRules,
  ...ioEventFdRules,
  ...irqInfoRules,
  ...setIrqsRules,
  ...setIrqsRefusedRules,
  ...signalRules,
  ...deviceInterruptRules,
  ...regionReadRules,
  ...regionWriteRules,
  ...dmaReadRules,
  ...dmaReadReplyRules,
  ...dmaWriteRules,
  ...resetRules,
  ...writeMultiRules,
  ...writeMultiAgreedRules,
  ...featureRules,
  ...migrationStateRules,
  ...dmaLoggingRules,
  ...migrationRules,
  ...migrationDataRules,
];
