/**
 * Where the IOMMU's function and the endpoints sit in a q35 machine, and what the ACPI tables say about it. A pure
 * description: the command line and the tables are both made from it, so that they cannot disagree.
 */
import type { DeviceScope, DmarDescription } from './acpi/dmar.ts';
import { DeviceScopeType } from './acpi/dmar.ts';
import type { ExternalPort } from './acpi/ssdt.ts';

/**
 * `root-ports`: each endpoint behind an external-facing PCI Express root port of its own, so that each has an IOMMU group of
 * its own and the guest turns the IOMMU on by itself. `root-bus`: endpoints directly on the root bus.
 */
export const TOPOLOGY_KINDS = ['root-ports', 'root-bus'] as const;
export type TopologyKind = (typeof TOPOLOGY_KINDS)[number];

/** QEMU's name for q35's root bus. */
const ROOT_BUS = 'pcie.0';
/** Slot of the IOMMU's function on the root bus: just below q35's own functions in slot 31, out of the way of the others. */
export const IOMMU_SLOT = 0x1e;
/** Slot 0 is q35's host bridge; slot 1 is left to what the user adds (a display, usually). */
const FIRST_ROOT_PORT_SLOT = 2;
const FIRST_ROOT_BUS_SLOT = 4;
const LAST_SLOT = IOMMU_SLOT - 1;

/** Most endpoints behind root ports, and on the root bus. */
export const MAX_ROOT_PORTS = LAST_SLOT - FIRST_ROOT_PORT_SLOT + 1;
export const MAX_ROOT_BUS_ENDPOINTS = LAST_SLOT - FIRST_ROOT_BUS_SLOT + 1;

export interface EndpointAddress {
  readonly name: string;
  /** Bus << 8 | device << 3 | function, as the guest will number them. */
  readonly requesterId: number;
}

export interface PlacedEndpoint extends EndpointAddress {
  /** QEMU's id of the bus that the device is plugged in. */
  readonly bus: string;
  readonly slot: number;
  readonly scope: DeviceScope;
}

export interface RootPort extends ExternalPort {
  /** QEMU's id, which is also the name of the bus behind it. */
  readonly id: string;
  /** Physical slot number: must differ between ports. */
  readonly chassis: number;
}

export interface Topology {
  readonly iommuBus: string;
  readonly iommuSlot: number;
  /** In the order of their slots, in which firmware numbers the buses behind them. */
  readonly rootPorts: readonly RootPort[];
  readonly endpoints: readonly PlacedEndpoint[];
}

export function describeTopology(kind: TopologyKind, names: readonly string[]): Topology {
  const limit = kind === 'root-ports' ? MAX_ROOT_PORTS : MAX_ROOT_BUS_ENDPOINTS;
  if (names.length > limit)
    throw new RangeError(`The topology ${kind} has room for ${limit} endpoints, not ${names.length}`);
  return placeEndpoints(
    names.map((name, index) => ({
      name,
      requesterId: kind === 'root-ports' ? (index + 1) << 8 : (FIRST_ROOT_BUS_SLOT + index) << 3,
    })),
  );
}

/**
 * The topology that gives each endpoint the requester id asked for: on bus 0 directly on the root bus, on bus N behind the
 * Nth root port. Throws RangeError when no such machine can be built.
 */
export function placeEndpoints(endpoints: readonly EndpointAddress[]): Topology {
  const buses = endpoints.map(({ requesterId }) => requesterId >>> 8);
  const ports = Math.max(0, ...buses);
  if (ports > MAX_ROOT_PORTS)
    throw new RangeError(`There is room for ${MAX_ROOT_PORTS} root ports, so for buses 01-${hex(MAX_ROOT_PORTS)}`);
  const rootPorts = Array.from({ length: ports }, (_, index): RootPort => {
    return { id: `rp${index}`, slot: FIRST_ROOT_PORT_SLOT + index, chassis: index + 1 };
  });
  for (const [index, port] of rootPorts.entries()) {
    // Firmware numbers a bus even if nothing is on it, but such a port in the command line is more likely a slip.
    if (!buses.includes(index + 1))
      throw new RangeError(`No endpoint is on bus ${hex(index + 1)}, behind root port ${port.id}`);
  }
  const taken = new Map<number, string>(rootPorts.map(port => [port.slot << 3, `root port ${port.id}`]));
  taken.set(0, "q35's host bridge").set(IOMMU_SLOT << 3, 'the IOMMU');
  return {
    iommuBus: ROOT_BUS,
    iommuSlot: IOMMU_SLOT,
    rootPorts,
    endpoints: endpoints.map(endpoint => placeEndpoint(endpoint, rootPorts, taken)),
  };
}

function placeEndpoint(
  endpoint: EndpointAddress,
  rootPorts: readonly RootPort[],
  taken: Map<number, string>,
): PlacedEndpoint {
  const { name, requesterId } = endpoint;
  const bus = requesterId >>> 8;
  const slot = (requesterId >>> 3) & 31;
  const where = `${hex(bus)}:${hex(slot)}.${requesterId & 7}`;
  const fail = (why: string): never => {
    throw new RangeError(`${name} cannot be at ${where}: ${why}`);
  };
  const holder = taken.get(requesterId);
  if (holder !== undefined) fail(`${holder} is there`);
  if ((requesterId & 7) !== 0) fail('each device has one function, number 0');
  taken.set(requesterId, name);
  if (bus === 0) {
    if (slot > LAST_SLOT) fail(`endpoints on the root bus have slots up to ${hex(LAST_SLOT)}`);
    return { name, requesterId, bus: ROOT_BUS, slot, scope: endpointScope([slot]) };
  }
  if (slot !== 0) fail('behind a root port there is one device, number 00');
  const port = rootPorts[bus - 1]!;
  return { name, requesterId, bus: port.id, slot, scope: endpointScope([port.slot, slot]) };
}

/** Named by its path from bus 0, so that the table holds whatever number the firmware gives to the bus behind a port. */
function endpointScope(devices: readonly number[]): DeviceScope {
  const path = devices.map(device => ({ device, function: 0 }));
  return { type: DeviceScopeType.endpoint, startBus: 0, path };
}

/** The table that tells the guest of the unit at `registerBase`. Opt-in goes with external-facing ports. */
export function describeDmar(
  topology: Topology,
  unit: Pick<DmarDescription, 'registerBase' | 'registerBytes' | 'hostAddressWidth'>,
): DmarDescription {
  return {
    ...unit,
    platformOptIn: topology.rootPorts.length > 0,
    scopes: topology.endpoints.map(endpoint => endpoint.scope),
  };
}

function hex(value: number): string {
  return value.toString(16).padStart(2, '0');
}
