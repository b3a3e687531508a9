import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  connectionArguments,
  type MachineConfiguration,
  machineArguments,
  memoryArguments,
  qemuCommand,
  type RunPaths,
  shellCommand,
  shellWord,
} from '../../qemu/command-line.ts';
import { describeTopology } from '../../qemu/topology.ts';

const ovmf = { code: '/fw/CODE.fd', vars: '/fw/VARS.fd' };
const machine: MachineConfiguration = {
  topology: describeTopology('root-ports', ['edu0', 'edu1']),
  firmware: 'bios',
  accelerator: 'tcg',
  memory: 'shared',
  boot: { kind: 'firmware' },
};
const paths: RunPaths = { iommuSocket: '/s/iommu', endpointSockets: { edu0: '/s/edu0', edu1: '/s/edu1' } };

const build = (change: Partial<MachineConfiguration> = {}, more: Partial<RunPaths> = {}) =>
  machineArguments({ ...machine, ...change }, { ...paths, ...more }, ovmf);

/** The values of every option of this name. */
function values(argv: readonly string[], option: string): string[] {
  return argv.flatMap((word, index) => (argv[index - 1] === option ? [word] : []));
}

describe('the devices', () => {
  it('are the unit, the root ports and an endpoint behind each', () => {
    expect(connectionArguments(machine.topology, paths)).toEqual([
      '-device',
      '{"driver":"vfio-user-pci","id":"iommu","bus":"pcie.0","addr":"1e","socket":{"type":"unix","path":"/s/iommu"}}',
      '-device',
      'pcie-root-port,id=rp0,bus=pcie.0,addr=2,chassis=1',
      '-device',
      'pcie-root-port,id=rp1,bus=pcie.0,addr=3,chassis=2',
      '-device',
      '{"driver":"vfio-user-pci","id":"edu0","bus":"rp0","addr":"0","socket":{"type":"unix","path":"/s/edu0"}}',
      '-device',
      '{"driver":"vfio-user-pci","id":"edu1","bus":"rp1","addr":"0","socket":{"type":"unix","path":"/s/edu1"}}',
    ]);
  });

  it('have slots in hexadecimal', () => {
    const names = Array.from({ length: 12 }, (_, index) => `e${index}`);
    const endpointSockets = Object.fromEntries(names.map(name => [name, `/s/${name}`]));
    const argv = connectionArguments(describeTopology('root-bus', names), { endpointSockets });
    expect(JSON.parse(argv.at(-1)!)).toMatchObject({ bus: 'pcie.0', addr: 'f' });
  });

  it('have no white space, so that the shell splits an unquoted substitution where we mean it', () => {
    expect(connectionArguments(machine.topology, paths).join('')).not.toMatch(/\s/);
  });

  it('leave the unit out when it has no socket', () => {
    const { endpointSockets } = paths;
    expect(connectionArguments(machine.topology, { endpointSockets }).join()).not.toContain('"iommu"');
  });

  it('must all have a socket', () => {
    expect(() => build({}, { endpointSockets: { edu0: '/s/edu0' } })).toThrow(
      'There is no socket for the endpoint edu1',
    );
  });

  it('come with the tables, whose names may have commas', () => {
    expect(values(build({}, { acpiTables: ['/t/a,b.aml', '/t/c.aml'] }), '-acpitable')).toEqual([
      'file=/t/a,,b.aml',
      'file=/t/c.aml',
    ]);
  });
});

describe('the memory', () => {
  it('is a sealed memfd when the server maps it', () => {
    expect(memoryArguments({ memory: 'shared', memoryMegabytes: 1024 })).toEqual([
      '-object',
      'memory-backend-memfd,id=ram,size=1024M,share=on,seal=on',
      '-machine',
      'q35,memory-backend=ram',
      '-m',
      '1024M',
    ]);
  });

  it("is QEMU's own when it is reached by messages", () => {
    expect(memoryArguments({ memory: 'message' })).toEqual(['-machine', 'q35', '-m', '512M']);
  });
});

describe('the processors', () => {
  it('are the plain ones under TCG and those of the host under KVM', () => {
    expect(values(build(), '-cpu')).toEqual(['qemu64']);
    const kvm = build({ accelerator: 'kvm', processors: 4 });
    expect([values(kvm, '-accel'), values(kvm, '-cpu'), values(kvm, '-smp')]).toEqual([['kvm'], ['host'], ['4']]);
  });

  it('are those asked for', () => {
    expect(values(build({ cpu: 'max' }), '-cpu')).toEqual(['max']);
  });
});

describe('the firmware', () => {
  it('is SeaBIOS without any argument', () => {
    expect(values(build(), '-drive')).toEqual([]);
  });

  it('is OVMF, read-only, with variables of this run', () => {
    expect(values(build({ firmware: 'uefi' }, { ovmfVars: '/run/vars.fd' }), '-drive')).toEqual([
      'if=pflash,unit=0,format=raw,readonly=on,file=/fw/CODE.fd',
      'if=pflash,unit=1,format=raw,file=/run/vars.fd',
    ]);
  });

  it('must be there', () => {
    expect(() => build({ firmware: 'uefi' })).toThrow(/a file of its own for its variables/);
    const uefi: MachineConfiguration = { ...machine, firmware: 'uefi' };
    expect(() => machineArguments(uefi, { ...paths, ovmfVars: '/v' }, undefined)).toThrow(/install the package ovmf/);
  });
});

describe('the channels', () => {
  it('are none unless asked for', () => {
    const argv = build();
    for (const option of ['-serial', '-chardev', '-qmp']) expect(argv).not.toContain(option);
  });

  it('are the console first and the agent second', () => {
    const argv = build({}, { console: { kind: 'file', path: '/c,d' }, agentSocket: '/a' });
    expect(values(argv, '-serial')).toEqual(['chardev:console', 'chardev:agent']);
    expect(values(argv, '-chardev')).toEqual([
      'file,id=console,path=/c,,d',
      'socket,id=agent,path=/a,server=on,wait=off',
    ]);
  });

  it('keep the agent second without a console', () => {
    expect(values(build({}, { agentSocket: '/a' }), '-serial')).toEqual(['null', 'chardev:agent']);
  });

  it("can be QEMU's standard output", () => {
    expect(values(build({}, { console: { kind: 'stdio' } }), '-chardev')).toEqual(['stdio,id=console,signal=off']);
  });

  it('are the debug port of the firmware', () => {
    const argv = build({}, { firmwareLog: { kind: 'file', path: '/log' } });
    expect(values(argv, '-chardev')).toEqual(['file,id=firmware,path=/log']);
    expect(values(argv, '-device')).toContain('isa-debugcon,iobase=0x402,chardev=firmware');
  });

  it('are QMP, to whoever listens', () => {
    expect(values(build({}, { qmpSocket: '/q' }), '-qmp')).toEqual(['unix:/q']);
  });
});

describe('what is booted', () => {
  it('is a kernel', () => {
    const argv = build({ boot: { kind: 'kernel', kernel: '/k', initrd: '/i', append: 'console=ttyS0 quiet' } });
    expect(argv.slice(-6)).toEqual(['-kernel', '/k', '-initrd', '/i', '-append', 'console=ttyS0 quiet']);
    expect(build({ boot: { kind: 'kernel', kernel: '/k' } }).slice(-2)).toEqual(['-kernel', '/k']);
  });

  it('is a disk', () => {
    const argv = build({ boot: { kind: 'disk', image: '/w,x.qcow2', format: 'qcow2', snapshot: true } });
    expect(values(argv, '-drive')).toEqual(['if=none,id=disk,format=qcow2,snapshot=on,file=/w,,x.qcow2']);
    expect(values(argv, '-device').at(-1)).toBe('ide-hd,drive=disk,bus=ide.0,bootindex=0');
  });
});

describe('the whole command', () => {
  it("starts with the installation, leaves out QEMU's defaults and ends with the user's own", () => {
    const installation = { argv: ['/ld.so', '/qemu'], version: '11.1.3', ovmf };
    const argv = qemuCommand(installation, { ...machine, extra: ['-device', 'virtio-rng-pci'] }, paths);
    expect(argv.slice(0, 6)).toEqual(['/ld.so', '/qemu', '-no-user-config', '-nodefaults', '-display', 'none']);
    expect(argv.slice(-2)).toEqual(['-device', 'virtio-rng-pci']);
  });
});

describe('the shell form', () => {
  it('quotes only what needs it', () => {
    expect(shellCommand(['qemu', '-m', '512M', '-append', "it's a b", '{"a":1}', ''])).toBe(
      `qemu -m 512M -append 'it'\\''s a b' '{"a":1}' ''`,
    );
  });

  it('can have an option a line', () => {
    expect(shellCommand(['qemu', '-m', '1M', '-S'], true)).toBe('qemu \\\n  -m 1M \\\n  -S');
  });

  it('means the same to a shell, whatever the words', () => {
    const words = fc.array(
      fc.string({ unit: 'binary-ascii' }).filter(word => !word.includes('\0')),
      { minLength: 1 },
    );
    fc.assert(
      fc.property(words, argv => {
        const script = `printf '%s\\0' ${argv.map(shellWord).join(' ')}`;
        const said = execFileSync('sh', ['-c', script], { encoding: 'latin1' });
        expect(said.split('\0').slice(0, -1)).toEqual(argv);
      }),
      { numRuns: 40 },
    );
  });
});
