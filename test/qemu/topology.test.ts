import { describe, expect, it } from 'vitest';
import {
  describeDmar,
  describeTopology,
  IOMMU_SLOT,
  MAX_ROOT_BUS_ENDPOINTS,
  MAX_ROOT_PORTS,
  placeEndpoints,
} from '../../qemu/topology.ts';

const step = (device: number) => ({ device, function: 0 });

describe('endpoints behind root ports', () => {
  const topology = describeTopology('root-ports', ['a', 'b']);

  it('have a port each, in the order of their slots', () => {
    expect(topology.rootPorts).toEqual([
      { id: 'rp0', slot: 2, chassis: 1 },
      { id: 'rp1', slot: 3, chassis: 2 },
    ]);
  });

  it('are device 0 of the bus behind their port', () => {
    expect(topology.endpoints).toEqual([
      { name: 'a', requesterId: 0x100, bus: 'rp0', slot: 0, scope: { type: 1, startBus: 0, path: [step(2), step(0)] } },
      { name: 'b', requesterId: 0x200, bus: 'rp1', slot: 0, scope: { type: 1, startBus: 0, path: [step(3), step(0)] } },
    ]);
  });

  it('fill the slots up to the IOMMU and no further', () => {
    const names = Array.from({ length: MAX_ROOT_PORTS }, (_, index) => `e${index}`);
    const slots = describeTopology('root-ports', names).rootPorts.map(port => port.slot);
    expect(Math.max(...slots)).toBe(IOMMU_SLOT - 1);
    expect(new Set(slots).size).toBe(MAX_ROOT_PORTS);
    expect(() => describeTopology('root-ports', [...names, 'more'])).toThrow(/has room for 28 endpoints, not 29/);
  });
});

describe('endpoints on the root bus', () => {
  it('sit from 00:04.0 on', () => {
    const topology = describeTopology('root-bus', ['a', 'b']);
    expect(topology.rootPorts).toEqual([]);
    expect(topology.endpoints).toEqual([
      { name: 'a', requesterId: 4 << 3, bus: 'pcie.0', slot: 4, scope: { type: 1, startBus: 0, path: [step(4)] } },
      { name: 'b', requesterId: 5 << 3, bus: 'pcie.0', slot: 5, scope: { type: 1, startBus: 0, path: [step(5)] } },
    ]);
  });

  it('have room up to the IOMMU', () => {
    const names = Array.from({ length: MAX_ROOT_BUS_ENDPOINTS }, (_, index) => `e${index}`);
    expect(describeTopology('root-bus', names).endpoints.at(-1)!.slot).toBe(IOMMU_SLOT - 1);
    expect(() => describeTopology('root-bus', [...names, 'more'])).toThrow(RangeError);
  });
});

describe('endpoints at addresses asked for', () => {
  const at = (...requesterIds: number[]) =>
    placeEndpoints(requesterIds.map((requesterId, index) => ({ name: `e${index}`, requesterId })));

  it('may mix both ways', () => {
    const topology = at(0x200, 0x100, 6 << 3);
    expect(topology.rootPorts.map(port => port.slot)).toEqual([2, 3]);
    expect(topology.endpoints.map(({ bus, slot }) => [bus, slot])).toEqual([
      ['rp1', 0],
      ['rp0', 0],
      ['pcie.0', 6],
    ]);
  });

  it.each([
    ['a function other than 0', [0x21], /e0 cannot be at 00:04\.1: each device has one function/],
    ['the slot of the host bridge', [0], /q35's host bridge is there/],
    ['the slot of the IOMMU', [IOMMU_SLOT << 3], /the IOMMU is there/],
    ["q35's own slot", [0x1f << 3], /slots up to 1d/],
    ['the slot of a root port', [0x100, 2 << 3], /root port rp0 is there/],
    ['another endpoint', [0x20, 0x20], /e1 cannot be at 00:04\.0: e0 is there/],
    ['device 1 behind a root port', [0x108], /there is one device, number 00/],
    ['a bus with none below it', [0x200], /No endpoint is on bus 01/],
    ['a bus beyond the last root port', [0x2000], /room for 28 root ports/],
  ])('refuses %s', (_, requesterIds, message) => {
    expect(() => at(...requesterIds)).toThrow(message);
  });
});

describe('the description of the DMAR table', () => {
  const unit = { registerBase: 0x1000n, registerBytes: 4096, hostAddressWidth: 39 };

  it('names exactly the endpoints, and opts in with external-facing ports', () => {
    const topology = describeTopology('root-ports', ['a', 'b']);
    const scopes = topology.endpoints.map(endpoint => endpoint.scope);
    expect(describeDmar(topology, unit)).toEqual({ ...unit, platformOptIn: true, scopes });
  });

  it('does not opt in without them', () => {
    expect(describeDmar(describeTopology('root-bus', ['a']), unit).platformOptIn).toBe(false);
  });
});
