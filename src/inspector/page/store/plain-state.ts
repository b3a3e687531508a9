/** The store's state as plain data, so that a test can compare it with the machine's. */
import { toJson } from '../../../trace/record-format.ts';
import type { InspectorStore } from './inspector-store.ts';

export function plainState(store: InspectorStore) {
  const { records, recorder, touches } = store;
  return {
    link: store.link.value,
    machine: store.machine.value,
    machines: store.machines.value,
    route: store.route.value,
    state: store.state.value,
    visible: store.visible.value,
    isRecording: store.isRecording,
    functions: store.inspection.value?.functions ?? [],
    findings: store.findings.value,
    findingsLost: store.findingsLost.value,
    mappings: store.mappings.value.mappings,
    attachments: store.mappings.value.attachments,
    statistics: store.statistics.value,
    rates: store.rates.latest,
    unavailable: store.unavailable.value,
    controlError: store.controlError.value,
    records: {
      count: records.count,
      first: records.first,
      next: records.next,
      damaged: records.damaged,
      lastTime: records.lastTime,
      classes: recorder.classes,
      dropped: recorder.dropped,
    },
    touches: { transfers: touches.transfers, beyond: touches.beyond, devices: [...touches.devices] },
    /** One record by its number, as JSON has it. */
    record: (number: number) => {
      const cursor = records.at(number);
      return cursor && toJson(cursor);
    },
  };
}
