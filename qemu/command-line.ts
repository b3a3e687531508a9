/** QEMU's command line, built from a description and nothing else: no files are looked at, nothing is started. */
import type { QemuInstallation } from './provision.ts';
import type { Topology } from './topology.ts';

export type Accelerator = 'kvm' | 'tcg';

/**
 * `shared`: the server maps the guest's memory (a memfd that QEMU seals against shrinking, so that the mapping cannot be
 * cut short). `message`: the server reaches memory only by DMA messages.
 */
export type MemorySharing = 'shared' | 'message';

/** SeaBIOS, or OVMF. */
export type Firmware = 'bios' | 'uefi';

export type Boot =
  | { readonly kind: 'firmware' }
  | { readonly kind: 'kernel'; readonly kernel: string; readonly initrd?: string; readonly append?: string }
  /** A disk image on q35's own AHCI controller, which every guest has a driver for. */
  | { readonly kind: 'disk'; readonly image: string; readonly format: 'raw' | 'qcow2'; readonly snapshot: boolean };

/** What the machine is: everything that can move a BAR or change what the guest sees. No path of this run is in it. */
export interface MachineConfiguration {
  readonly topology: Topology;
  readonly firmware: Firmware;
  readonly accelerator: Accelerator;
  /** Default: `host` with KVM, `qemu64` with TCG. */
  readonly cpu?: string;
  /** Virtual processors. Default 2. */
  readonly processors?: number;
  /** MiB. Default 512. */
  readonly memoryMegabytes?: number;
  readonly memory: MemorySharing;
  readonly boot: Boot;
  /** Arguments of the user, appended as they are. */
  readonly extra?: readonly string[];
}

/** Where output of the guest goes; only one output can go to QEMU's standard output. */
export type Output = { readonly kind: 'stdio' } | { readonly kind: 'file'; readonly path: string };

/** The files and sockets of one run. */
export interface RunPaths {
  /** Undefined for a machine without our IOMMU. */
  readonly iommuSocket?: string;
  /** By the endpoint's name. */
  readonly endpointSockets: Readonly<Record<string, string>>;
  /** Whole ACPI tables. */
  readonly acpiTables?: readonly string[];
  /** The guest's first serial port; `terminal`: standard input and output, shared with QEMU's monitor (Ctrl-A C). */
  readonly console?: Output | { readonly kind: 'terminal' };
  /** The guest's second serial port, as a unix socket that QEMU listens on. */
  readonly agentSocket?: string;
  /** Unix socket that QEMU connects to and talks QMP on: whoever listens needs not guess when QEMU is ready. */
  readonly qmpSocket?: string;
  /** This run's own copy of the UEFI variables; required with `uefi`. */
  readonly ovmfVars?: string;
  /** What the firmware writes to its debug port. */
  readonly firmwareLog?: Output;
}

export const DEFAULT_MEMORY_MEGABYTES = 512;
export const DEFAULT_PROCESSORS = 2;
/** SeaBIOS and OVMF (debug builds) write their log to this port. */
const DEBUG_PORT = 0x402;

/** Everything after the program: throws Error when the description and the paths do not fit together. */
export function machineArguments(
  machine: MachineConfiguration,
  paths: RunPaths,
  ovmf: QemuInstallation['ovmf'],
): string[] {
  return [
    ...processorArguments(machine),
    ...memoryArguments(machine),
    ...firmwareArguments(machine, paths, ovmf),
    ...channelArguments(paths),
    ...connectionArguments(machine.topology, paths),
    ...bootArguments(machine.boot),
    ...(machine.extra ?? []),
  ];
}

/** The whole command line. */
export function qemuCommand(installation: QemuInstallation, machine: MachineConfiguration, paths: RunPaths): string[] {
  return [...installation.argv, ...machineArguments(machine, paths, installation.ovmf)];
}

function processorArguments(machine: MachineConfiguration): string[] {
  const { accelerator, processors = DEFAULT_PROCESSORS } = machine;
  const cpu = machine.cpu ?? (accelerator === 'kvm' ? 'host' : 'qemu64');
  const basics = ['-no-user-config', '-nodefaults', '-display', 'none'];
  return [...basics, '-accel', accelerator, '-cpu', cpu, '-smp', String(processors)];
}

/** The guest's memory, with the machine type that names it. */
export function memoryArguments(machine: Pick<MachineConfiguration, 'memory' | 'memoryMegabytes'>): string[] {
  const size = `${machine.memoryMegabytes ?? DEFAULT_MEMORY_MEGABYTES}M`;
  if (machine.memory === 'message') return ['-machine', 'q35', '-m', size];
  return [
    ...['-object', `memory-backend-memfd,id=ram,size=${size},share=on,seal=on`],
    ...['-machine', 'q35,memory-backend=ram', '-m', size],
  ];
}

function firmwareArguments(machine: MachineConfiguration, paths: RunPaths, ovmf: QemuInstallation['ovmf']): string[] {
  if (machine.firmware === 'bios') return [];
  if (ovmf === undefined) {
    throw new Error(
      'This QEMU comes without UEFI firmware: install the package ovmf (edk2-ovmf), or use BIOS firmware',
    );
  }
  if (paths.ovmfVars === undefined) throw new Error('UEFI firmware needs a file of its own for its variables');
  return [
    ...['-drive', `if=pflash,unit=0,format=raw,readonly=on,file=${comma(ovmf.code)}`],
    ...['-drive', `if=pflash,unit=1,format=raw,file=${comma(paths.ovmfVars)}`],
  ];
}

function channelArguments(paths: RunPaths): string[] {
  const { agentSocket, firmwareLog, qmpSocket } = paths;
  const argv: string[] = [];
  if (paths.console?.kind === 'terminal') {
    argv.push(
      '-chardev',
      'stdio,id=console,mux=on,signal=off',
      '-serial',
      'chardev:console',
      '-mon',
      'chardev=console',
    );
  } else if (paths.console !== undefined) {
    argv.push('-chardev', outputBackend('console', paths.console), '-serial', 'chardev:console');
  } else if (agentSocket !== undefined) {
    // Keeps the agent on the second port.
    argv.push('-serial', 'null');
  }
  if (agentSocket !== undefined) {
    argv.push('-chardev', `socket,id=agent,path=${comma(agentSocket)},server=on,wait=off`, '-serial', 'chardev:agent');
  }
  if (firmwareLog !== undefined) {
    argv.push('-chardev', outputBackend('firmware', firmwareLog));
    argv.push('-device', `isa-debugcon,iobase=0x${DEBUG_PORT.toString(16)},chardev=firmware`);
  }
  if (qmpSocket !== undefined) argv.push('-qmp', `unix:${comma(qmpSocket)}`);
  return argv;
}

function outputBackend(id: string, output: Output): string {
  return output.kind === 'stdio' ? `stdio,id=${id},signal=off` : `file,id=${id},path=${comma(output.path)}`;
}

/** What makes any q35 command line a machine with our IOMMU: the devices, the root ports and the tables. */
export function connectionArguments(
  topology: Topology,
  paths: Pick<RunPaths, 'iommuSocket' | 'endpointSockets' | 'acpiTables'>,
): string[] {
  const { iommuSocket } = paths;
  const { iommuBus, iommuSlot } = topology;
  const argv = iommuSocket === undefined ? [] : vfioUserDevice('iommu', iommuSocket, iommuBus, iommuSlot);
  for (const { chassis, id, slot } of topology.rootPorts) {
    argv.push('-device', `pcie-root-port,id=${id},bus=${iommuBus},addr=${slot.toString(16)},chassis=${chassis}`);
  }
  for (const { bus, name, slot } of topology.endpoints) {
    const socket = paths.endpointSockets[name];
    if (socket === undefined) throw new Error(`There is no socket for the endpoint ${name}`);
    argv.push(...vfioUserDevice(name, socket, bus, slot));
  }
  for (const path of paths.acpiTables ?? []) argv.push('-acpitable', `file=${comma(path)}`);
  return argv;
}

/** The socket is an object, so the option must be JSON; QEMU reads `addr` as hexadecimal. */
function vfioUserDevice(id: string, path: string, bus: string, slot: number): string[] {
  return ['-device', JSON.stringify(vfioUserProperties(id, path, bus, slot))];
}

/** What `-device` and QMP's device_add take. */
export function vfioUserProperties(id: string, path: string, bus: string, slot: number): Record<string, unknown> {
  const socket = { type: 'unix', path };
  return { driver: 'vfio-user-pci', id, bus, addr: slot.toString(16), socket };
}

function bootArguments(boot: Boot): string[] {
  switch (boot.kind) {
    case 'firmware':
      return [];
    case 'kernel': {
      const argv = ['-kernel', boot.kernel];
      if (boot.initrd !== undefined) argv.push('-initrd', boot.initrd);
      if (boot.append !== undefined) argv.push('-append', boot.append);
      return argv;
    }
    case 'disk': {
      const drive = `if=none,id=disk,format=${boot.format},snapshot=${boot.snapshot ? 'on' : 'off'},file=${comma(boot.image)}`;
      return ['-drive', drive, '-device', 'ide-hd,drive=disk,bus=ide.0,bootindex=0'];
    }
  }
}

/** In QEMU's key=value options a comma inside a value is written twice. */
function comma(value: string): string {
  return value.replaceAll(',', ',,');
}

/** One shell command, safe to paste: words quoted where needed; with `lines`, each option on a line of its own. */
export function shellCommand(argv: readonly string[], lines = false): string {
  const words = argv.map(shellWord);
  if (!lines) return words.join(' ');
  return words.reduce((text, word, index) => {
    if (index === 0) return word;
    return argv[index]!.startsWith('-') ? `${text} \\\n  ${word}` : `${text} ${word}`;
  }, '');
}

/** POSIX shell quoting (XCU 2.2.2): single quotes keep everything but a single quote. */
export function shellWord(word: string): string {
  if (/^[\w@%+=:,./-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
