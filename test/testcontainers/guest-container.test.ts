import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { describeMachine } from '../../src/machine/description.ts';
import { withBind } from '../../src/testcontainers/binds.ts';
import { missingImage, qemuImage, serverImage } from '../../src/testcontainers/images.ts';
import { imageTag } from '../../src/testcontainers/kernel-module.ts';
import {
  bootCommand,
  type GuestSettings,
  guestNetwork,
  QemuGuestContainer,
} from '../../src/testcontainers/qemu-guest-container.ts';

const HERE = fileURLToPath(import.meta.url);

const NOTHING: GuestSettings = {
  devices: [],
  files: [],
  modules: [],
  options: [],
  bridge: false,
  kvm: false,
  record: false,
};
const START = ['boot', '--headless', '--guest-dir', '/run/guest', '--server', '/run/viommu'];

describe("the guest container's command", () => {
  it('boots without a terminal, with a machine of the server', () => {
    expect(bootCommand(NOTHING, '/run/viommu')).toEqual(START);
  });

  it('records where that is wanted', () => {
    expect(bootCommand({ ...NOTHING, record: true }, '/run/viommu')).toEqual([...START, '--record', '/tmp/run.viommu']);
  });

  it('has what was asked for', () => {
    const settings: GuestSettings = {
      ...NOTHING,
      devices: ['edu@01:00.0', 'edu@02:00.0,id=second'],
      sanitize: 'all,-register-spin',
      kvm: true,
      options: ['--ram', '1024'],
    };
    expect(bootCommand(settings, 'ws://172.17.0.2:7180')).toEqual([
      ...['boot', '--headless', '--guest-dir', '/run/guest', '--server', 'ws://172.17.0.2:7180'],
      ...['--device', 'edu@01:00.0', '--device', 'edu@02:00.0,id=second'],
      ...['--sanitize', 'all,-register-spin', '--accel', 'kvm', '--ram', '1024'],
    ]);
  });

  it('names the files where they lie in the container, two of one name apart', () => {
    const files = [
      { host: '/a/test.sh', guest: '/root/test.sh' },
      { host: '/b/test.sh', guest: '/bin/other' },
      { host: '/b/odd:name', guest: '/bin/odd' },
    ];
    expect(bootCommand({ ...NOTHING, files }, '/run/viommu').slice(START.length)).toEqual([
      ...['--copy', '/opt/viommu-guest/0/test.sh:/root/test.sh'],
      ...['--copy', '/opt/viommu-guest/1/test.sh:/bin/other'],
      ...['--copy', '/opt/viommu-guest/2/odd_name:/bin/odd'],
    ]);
  });

  it('takes a whole machine, or devices', () => {
    const machine = describeMachine('vtd', ['edu@01:00.0']);
    expect(bootCommand({ ...NOTHING, machine }, '/run/viommu')).toEqual([
      ...START,
      ...['--machine', '/opt/viommu-guest/machine.json'],
    ]);
    expect(() => bootCommand({ ...NOTHING, machine, devices: ['edu@01:00.0'] }, '/run/viommu')).toThrow(
      'leave out withDevices',
    );
  });
});

describe('a guest container', () => {
  it('needs a server', async () => {
    await expect(new QemuGuestContainer().start()).rejects.toThrow('a guest needs a server: call withServer');
  });

  it('refuses what cannot be at once', () => {
    const guest = new QemuGuestContainer();
    expect(() => guest.withModule('/nowhere/edu.ko')).toThrow('there is no file /nowhere/edu.ko');
    expect(() => guest.withFile('/nowhere/test.sh', '/test.sh')).toThrow('there is no file /nowhere/test.sh');
    expect(() => guest.withFile(HERE, 'test.sh')).toThrow('test.sh is no absolute path in the guest');
    expect(() => guest.withSanitize('everything')).toThrow('everything');
    expect(() => guest.withMachine({ iommu: { kind: 'smmu' } } as never)).toThrow('smmu');
  });

  it('can be described call by call', () => {
    const guest = new QemuGuestContainer('some-image:1');
    expect(
      guest
        .withDevices('edu@01:00.0')
        .withSanitize('all')
        .withFile(HERE, '/root/here')
        .withModule(HERE, 'a=1')
        .withBridge()
        .withRam(256)
        .withMemory('message')
        .withFirmware('uefi')
        .withoutRecording()
        .withBootOptions('--cpus', '1'),
    ).toBe(guest);
  });
});

describe('images', () => {
  it('are named by the environment, or as they are built', () => {
    expect([serverImage({}), qemuImage({})]).toEqual(['viommu-server', 'viommu-qemu']);
    expect(serverImage({ VIOMMU_SERVER_IMAGE: 'registry/server:2' })).toBe('registry/server:2');
    expect(qemuImage({ VIOMMU_QEMU_IMAGE: 'registry/qemu:2' })).toBe('registry/qemu:2');
    expect(serverImage({ VIOMMU_SERVER_IMAGE: '' })).toBe('viommu-server');
  });

  it('that are missing are told with what to do', () => {
    const message = missingImage('viommu-server', new Error('no such host'));
    expect(message).toContain("there is no image 'viommu-server' here, and it cannot be pulled (no such host)");
    expect(message).toContain('build it from a checkout');
    expect(message).toContain('VIOMMU_SERVER_IMAGE');
  });

  it('that build modules have a tag for each kernel', () => {
    expect(imageTag('')).toBe('newest');
    expect(imageTag('6.12.107+deb13-amd64')).toBe('6.12.107_deb13-amd64');
    expect(imageTag('x'.repeat(200))).toHaveLength(128);
  });
});

describe('mounts', () => {
  it('of the test stay, and ours comes once', () => {
    const once = withBind(['/data:/data:ro'], 'volume', '/run/viommu');
    expect(once).toEqual(['/data:/data:ro', 'volume:/run/viommu:rw']);
    expect(withBind(once, 'next', '/run/viommu')).toEqual(['/data:/data:ro', 'next:/run/viommu:rw']);
    expect(withBind(undefined, 'volume', '/run/viommu')).toEqual(['volume:/run/viommu:rw']);
  });
});

describe('the network of a guest with a bridge', () => {
  it("is the server's, or the one that the test has said", () => {
    expect(guestNetwork(undefined, ['mine', 'other'])).toBe('mine');
    expect(guestNetwork('other', ['mine', 'other'])).toBe('other');
  });

  it.each([
    [undefined, ['none'], /in no network/],
    [undefined, [], /in no network/],
    ['none', ['none'], /not in the network 'none'/],
    ['far', ['mine'], /not in the network 'far'/],
  ])('%s with a server in %s is refused', (wanted, ofServer, message) => {
    expect(() => guestNetwork(wanted, ofServer)).toThrow(message);
  });
});
