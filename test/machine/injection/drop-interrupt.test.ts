import { describe, expect, it } from 'vitest';
import type { InterruptLine } from '../../../src/pci/ports.ts';
import { applications, injectionRig } from './support.ts';

class LineLog implements InterruptLine {
  readonly log: string[] = [];

  raise(vector?: number): void {
    this.log.push(`raise ${vector}`);
  }

  lower(): void {
    this.log.push('lower');
  }
}

describe('drop-interrupt', () => {
  it('drops the next one only', () => {
    const { injection, outside, ports, trace } = injectionRig();
    const id = injection.add({ kind: 'drop-interrupt', device: 'edu0' });
    ports.line.raise(0);
    expect(outside.line.raised).toBe(0);
    ports.line.raise(0);
    expect(outside.line.raised).toBe(1);
    ports.line.lower();
    expect(outside.line.asserted).toBe(false);
    expect(applications(trace)).toEqual([{ injection: id, rule: 'drop-interrupt', applied: 1, vector: 0 }]);
  });

  it('of one vector lets the others through', () => {
    const { injection } = injectionRig();
    const inner = new LineLog();
    const line = injection.iommuLine(inner);
    injection.add({ kind: 'drop-interrupt', device: 'iommu', vector: 2, times: 2 });
    for (const vector of [1, 2, 3, 2, 2]) line.raise(vector);
    line.raise();
    line.lower();
    expect(inner.log).toEqual(['raise 1', 'raise 3', 'raise 2', 'raise 0', 'lower']);
  });

  it('drops a message that the IOMMU sends, without its knowing', () => {
    const { injection, trace } = injectionRig();
    const sent: number[] = [];
    const messages = injection.iommuMessages({ send: (_high, _low, data) => sent.push(data) === -1 });
    injection.add({ kind: 'drop-interrupt', device: 'iommu' });
    expect(messages.send(0, 0xfee00000 | 0, 5)).toBe(true);
    expect(messages.send(0, 0xfee00000 | 0, 6)).toBe(false);
    expect(sent).toEqual([6]);
    expect(trace.events.map(event => event.source)).toEqual(['iommu']);
  });

  it('of the IOMMU needs one', () => {
    const { injection } = injectionRig('none');
    expect(() => injection.add({ kind: 'drop-interrupt', device: 'iommu' })).toThrow(/no endpoint 'iommu'.*edu0/);
  });
});
