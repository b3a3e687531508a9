/** A guest in QEMU, in a container of its own, with a machine that it leases from a server in another. */
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { GenericContainer } from 'testcontainers';
import { checkDescription, type MachineDescription } from '../machine/description.ts';
import { parsePolicy } from '../trace/sanitizer/policy.ts';
import { withBind } from './binds.ts';
import { qemuImage, requireImage } from './images.ts';
import { GUEST_DIRECTORY, GuestReady } from './ready.ts';
import { type LoadedModule, RECORDING, StartedQemuGuestContainer } from './started-qemu-guest.ts';
import { SERVER_DIRECTORY, SERVER_PORT, type StartedViommuContainer } from './started-viommu.ts';

const KVM = '/dev/kvm';
/** Files on their way into the guest. */
const FILES = '/opt/viommu-guest';
/** A kernel's start under TCG takes seconds; this is for machines ten times slower. */
const STARTUP_TIMEOUT_MS = 180_000;

export interface GuestSettings {
  server?: StartedViommuContainer;
  machine?: MachineDescription;
  devices: string[];
  sanitize?: string;
  readonly files: { readonly host: string; readonly guest: string }[];
  readonly modules: LoadedModule[];
  readonly options: string[];
  bridge: boolean;
  kvm: boolean;
  record: boolean;
}

export class QemuGuestContainer extends GenericContainer {
  private readonly image: string;
  private readonly settings: GuestSettings = {
    devices: [],
    files: [],
    modules: [],
    options: [],
    bridge: false,
    kvm: false,
    record: true,
  };

  /** Default: `viommu-qemu`, or what the environment's VIOMMU_QEMU_IMAGE names. */
  constructor(image: string = qemuImage()) {
    super(image);
    this.image = image;
    this.withWaitStrategy(new GuestReady(STARTUP_TIMEOUT_MS));
  }

  /** The server whose machine the guest gets. Without one there is no guest. */
  withServer(server: StartedViommuContainer): this {
    this.settings.server = server;
    return this;
  }

  /** The whole machine. Throws a DescriptionError where it cannot be. Default: two edu devices behind a VT-d unit. */
  withMachine(description: MachineDescription): this {
    this.settings.machine = checkDescription(description);
    return this;
  }

  /** Endpoints only, as `--device` takes them, e.g. `edu@01:00.0`. */
  withDevices(...devices: readonly string[]): this {
    this.settings.devices = [...devices];
    return this;
  }

  /** Which mistakes to look for, as `--sanitize` takes it. Throws an Error where it does not. */
  withSanitize(policy: string): this {
    parsePolicy(policy);
    this.settings.sanitize = policy;
    return this;
  }

  /** A file that is there, executable, when the guest starts. */
  withFile(hostPath: string, guestPath: string): this {
    requireFile(hostPath);
    if (!guestPath.startsWith('/')) throw new Error(`${guestPath} is no absolute path in the guest`);
    this.settings.files.push({ host: hostPath, guest: guestPath });
    return this;
  }

  /** A kernel module that is loaded before `start` is done, in the order of the calls. `parameters`: e.g. `debug=1`. */
  withModule(koPath: string, parameters?: string): this {
    requireFile(koPath);
    this.settings.modules.push(parameters === undefined ? { path: koPath } : { path: koPath, parameters });
    return this;
  }

  /** With the host's /dev/kvm. Throws an Error where there is none. */
  withKvm(): this {
    const { gid } = requireDevice(KVM);
    this.hostConfig.Devices = [{ PathOnHost: KVM, PathInContainer: KVM, CgroupPermissions: 'rw' }];
    // The image's user may not open it otherwise.
    this.hostConfig.GroupAdd = [String(gid)];
    this.settings.kvm = true;
    return this;
  }

  /** Reaches the server by WebSocket, as from another host: no volume is shared, and guest memory is reached by messages. */
  withBridge(): this {
    this.settings.bridge = true;
    return this;
  }

  /** The guest's memory in MiB. Default: 512. */
  withRam(megabytes: number): this {
    return this.withBootOptions('--ram', String(megabytes));
  }

  /** How the server reaches the guest's memory. Default: mapped. */
  withMemory(kind: 'shared' | 'message'): this {
    return this.withBootOptions('--memory', kind);
  }

  /** Default: SeaBIOS. */
  withFirmware(kind: 'bios' | 'uefi'): this {
    return this.withBootOptions('--firmware', kind);
  }

  /** Keeps no recording: a driver that does many transfers is faster so. */
  withoutRecording(): this {
    this.settings.record = false;
    return this;
  }

  /** More options of `viommu boot`. */
  withBootOptions(...options: readonly string[]): this {
    this.settings.options.push(...options);
    return this;
  }

  override async start(): Promise<StartedQemuGuestContainer> {
    const { settings } = this;
    const { server } = settings;
    if (server === undefined)
      throw new Error('a guest needs a server: call withServer(await new ViommuContainer().start())');
    await requireImage(this.image);
    this.withTmpFs({ [GUEST_DIRECTORY]: 'rw' });
    this.withCopyFilesToContainer(
      settings.files.map(({ host }, index) => ({ source: host, target: fileAt(index, host), mode: 0o755 })),
    );
    if (settings.machine !== undefined) {
      this.withCopyContentToContainer([
        { content: JSON.stringify(settings.machine), target: MACHINE_FILE, mode: 0o644 },
      ]);
    }
    let network: string | undefined;
    if (settings.bridge) {
      network = guestNetwork(this.networkMode, server.getNetworkNames());
      if (network !== DEFAULT_NETWORK) this.withNetworkMode(network);
      this.withEnvironment({ VIOMMU_TOKEN: server.token });
    } else {
      // It needs none by itself.
      if (this.networkMode === undefined) this.withNetworkMode('none');
      this.hostConfig.Binds = withBind(this.hostConfig.Binds, server.volumeName, SERVER_DIRECTORY);
    }
    this.withCommand(bootCommand(settings, serverAddress(server, network)));
    return await StartedQemuGuestContainer.finish(await super.start(), server, settings.modules, settings.record);
  }
}

const MACHINE_FILE = `${FILES}/machine.json`;
const DEFAULT_NETWORK = 'bridge';

/** `server`: as `--server` takes it. */
export function bootCommand(settings: GuestSettings, server: string): string[] {
  const { machine, devices, sanitize, files, options, kvm, record } = settings;
  if (machine !== undefined && devices.length > 0) {
    throw new Error('withMachine names the devices too: leave out withDevices');
  }
  return [
    ...['boot', '--headless', '--guest-dir', GUEST_DIRECTORY, '--server', server],
    ...(machine === undefined ? [] : ['--machine', MACHINE_FILE]),
    ...devices.flatMap(device => ['--device', device]),
    ...(sanitize === undefined ? [] : ['--sanitize', sanitize]),
    ...(record ? ['--record', RECORDING] : []),
    ...(kvm ? ['--accel', 'kvm'] : []),
    ...files.flatMap(({ host, guest }, index) => ['--copy', `${fileAt(index, host)}:${guest}`]),
    ...options,
  ];
}

function fileAt(index: number, hostPath: string): string {
  return `${FILES}/${index}/${basename(hostPath).replaceAll(':', '_')}`;
}

/** `network`: by which it is reached; undefined: by the directory that both have. */
function serverAddress(server: StartedViommuContainer, network: string | undefined): string {
  if (network === undefined) return SERVER_DIRECTORY;
  return `ws://${server.getIpAddress(network)}:${SERVER_PORT}`;
}

/** In which network a guest reaches its server: the one that the test has said, or the server's. Throws where the server is not in it. */
export function guestNetwork(wanted: string | undefined, ofServer: readonly string[]): string {
  const networks = ofServer.filter(name => name !== 'none');
  const network = wanted ?? networks[0];
  if (network === undefined) throw new Error('the server is in no network: start it in one for withBridge()');
  if (!networks.includes(network)) {
    throw new Error(
      `the server is not in the network '${network}': with withBridge() the guest must share one with it`,
    );
  }
  return network;
}

function requireFile(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isFile() !== true) throw new Error(`there is no file ${path}`);
}

function requireDevice(path: string): { readonly gid: number } {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new Error(`there is no ${path} on this machine: leave out withKvm()`);
  return found;
}
