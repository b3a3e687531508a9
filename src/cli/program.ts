/** All commands of `viommu`. */
import { Command } from 'commander';
import { addAcpi } from './acpi.ts';
import { addBackend } from './backend.ts';
import { addBoot } from './boot.ts';
import { addBridge } from './bridge.ts';
import { addDemo } from './demo.ts';
import { addDomain } from './domain.ts';
import { addExplain } from './explain.ts';
import { addFetch } from './fetch.ts';
import { addGuest } from './guest.ts';
import { addInspect } from './inspect.ts';
import { addQemuArgs } from './qemu-args.ts';
import { addRecord } from './record.ts';
import { addServe } from './serve.ts';
import { addTest } from './test.ts';
import { addTrace } from './trace.ts';
import { VERSION } from './version.ts';

const EXAMPLES = `
Examples:
  See the whole thing work: a stock Linux guest, an unmodified QEMU, real DMA through our VT-d:
    $ viommu demo
  Serve a machine to a QEMU that you start yourself:
    $ viommu serve --dir /tmp/m --device edu@01:00.0
    $ qemu-system-x86_64 ... $(viommu qemu-args --dir /tmp/m)
  Boot your own kernel with it:
    $ viommu boot --kernel bzImage --initrd initramfs.img --append "console=ttyS0"
  Record what happens, and have a mistake explained:
    $ viommu boot --record run.viommu
    $ viommu explain run.viommu F1
`;

export function buildProgram(): Command {
  const program = new Command('viommu')
    .description(
      'A virtual IOMMU and DMA-capable devices for an unmodified guest in an unmodified QEMU, over vfio-user',
    )
    .version(VERSION)
    .showHelpAfterError('(viommu COMMAND --help shows what it takes)')
    .addHelpText('after', EXAMPLES)
    .exitOverride();
  program.commandsGroup('Run a machine:');
  addDemo(program);
  addServe(program);
  addBackend(program);
  addBridge(program);
  addBoot(program);
  addGuest(program);
  addTest(program);
  addQemuArgs(program);
  addAcpi(program);
  addDomain(program);
  addFetch(program);
  program.commandsGroup('Debug DMA:');
  addTrace(program);
  addRecord(program);
  addExplain(program);
  addInspect(program);
  for (const command of program.commands) command.exitOverride();
  return program;
}
