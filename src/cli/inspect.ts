/** `viommu inspect`: the inspector's page for a recorded file. */
import { type Command, InvalidArgumentError } from 'commander';
import { AccessError, parseListen } from '../inspector/access.ts';
import { RECORDING_NAME, RecordingPort } from '../inspector/recording-port.ts';
import { catchInterrupt } from './interrupt.ts';
import { complaints, withRecording } from './recording-options.ts';
import { serveAt } from './serve-remote.ts';

interface InspectFlags {
  readonly port: string;
  readonly json?: boolean;
}

const EXAMPLES = `
Nothing leaves this machine: the page and the file are served on 127.0.0.1 unless you say otherwise, and until Ctrl-C. A running machine
has its page by 'viommu serve --inspect' or 'viommu boot --inspect'.

Examples:
  Look at a file of 'viommu record' or 'viommu serve --record':
    $ viommu inspect run.viommu
  The same at an address that other machines reach; the URL that is printed holds the token that they need:
    $ viommu inspect run.viommu --port 0.0.0.0:8123
`;

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('look at a recorded file in a browser')
    .argument('<file>', "a file of 'viommu record' or 'viommu serve --record'")
    .option(
      '--port <[host:]port>',
      'serve the page there; 127.0.0.1 unless said otherwise, port 0: any free one',
      checkPlace,
      '0',
    )
    .option('--json', 'print the address as JSON')
    .addHelpText('after', EXAMPLES)
    .action(inspect);
}

async function inspect(file: string, flags: InspectFlags): Promise<void> {
  const interruption = catchInterrupt();
  try {
    await withRecording(file, async reader => {
      for (const complaint of complaints(reader)) console.error(`viommu: ${complaint}`);
      const port = new RecordingPort(reader);
      const served = await serveAt(flags.port, port, { page: true, name: RECORDING_NAME });
      try {
        const { url, pageUrl } = served;
        console.log(flags.json ? JSON.stringify({ kind: 'ready', remote: url, page: pageUrl }) : pageUrl);
        await interruption.signalled;
      } finally {
        port.close();
        await served.close();
      }
    });
  } finally {
    interruption.stop();
  }
}

/** Commander shows what it throws beside the option's name. */
function checkPlace(text: string): string {
  try {
    parseListen(text);
    return text;
  } catch (error) {
    throw error instanceof AccessError ? new InvalidArgumentError(error.message) : error;
  }
}
