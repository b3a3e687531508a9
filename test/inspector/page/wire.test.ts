import { describe, expect, it } from 'vitest';
import {
  readDescription,
  readFindings,
  readInspection,
  readMappings,
  readQueue,
  readRegisters,
  readTlb,
  readWalk,
} from '../../../src/inspector/page/wire.ts';

describe('answers', () => {
  it('may have integers of any width', () => {
    const mapping = { domain: 1n, iova: 0xfffff000n, pages: 2, frame: -1, permissions: 3, since: 5n };
    const { mappings, attachments } = readMappings({
      mappings: [mapping],
      attachments: [{ requesterId: 256, pasid: -1, domain: 1, kind: 0 }],
    });
    expect(mappings).toEqual([{ domain: 1, page: 0xfffff, pages: 2, frame: -1, permissions: 3, since: 5 }]);
    expect(attachments).toEqual([{ requesterId: 256, pasid: -1, domain: 1, kind: 0 }]);
  });

  it('may lack everything', () => {
    expect(readMappings({})).toEqual({ mappings: [], attachments: [] });
    expect(readFindings({})).toEqual({ findings: [], lost: 0 });
    expect(readInspection({})).toEqual({ registers: [], functions: [], state: 'running' });
    expect(readRegisters({})).toEqual([]);
    expect(readTlb({})).toEqual({ entries: [], total: 0 });
    expect(readQueue({}).entries).toEqual([]);
    expect(readWalk({})).toEqual({ status: 'not present', steps: [], agrees: true });
    expect(readDescription({})).toEqual([]);
  });

  it('have findings with and without an address', () => {
    const { findings } = readFindings({
      findings: [
        {
          id: 'F1',
          iova: 0x1000,
          domain: null,
          evidence: [{ time: 1n, kind: 'fault', source: 'iommu', text: 'x' }],
          count: 2n,
        },
        { id: 'F2', evidence: [] },
      ],
      lost: 3,
    });
    expect(findings[0]).toMatchObject({ id: 'F1', iova: 0x1000n, count: 2, evidence: [{ time: 1, text: 'x' }] });
    expect('iova' in findings[1]!).toBe(false);
  });

  it('have a walk in a member of its own, beside the status of the answer', () => {
    const walk = {
      steps: [
        { what: 'level 1', address: 8, words: [3], fields: [{ name: 'R', bits: [0, 0], value: 1 }], present: true },
      ],
      status: 'mapped',
      address: 0x2000,
      shift: 12,
      permissions: 3,
      cached: { address: 0x3000, shift: 12, permissions: 1 },
      agrees: false,
    };
    const read = readWalk({ walk, status: 0 });
    expect(read).toMatchObject({ status: 'mapped', address: 0x2000n, cached: { address: 0x3000n }, agrees: false });
    expect(read.steps[0]).toEqual({
      what: 'level 1',
      address: 8n,
      words: [3n],
      fields: [{ name: 'R', bits: [0, 0], value: 1n }],
      present: true,
    });
  });

  it('have the registers of some blocks', () => {
    const values = { function: 'iommu', block: 'vtd', bytes: new Uint8Array(4) };
    const blocks = [values, { ...values, block: 'pci' }, { ...values, bytes: null }];
    expect(readRegisters({ status: 0, blocks }).map(one => one.block)).toEqual(['vtd', 'pci']);
  });

  it('tell the functions of a recorded machine', () => {
    const description = { iommu: { kind: 'vtd' }, endpoints: [{ kind: 'edu', id: 'edu0', requesterId: 256 }] };
    expect(readDescription(description)).toEqual([
      { name: 'iommu', kind: 'vtd', connected: false, busMaster: false },
      { name: 'edu0', kind: 'edu', requesterId: 256, connected: false, busMaster: false },
    ]);
  });
});
