/** What is kept of a failed test. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { FindingsAnswer } from '../machine/debug-commands.ts';
import type { MachineDescription } from '../machine/description.ts';
import { reportJson } from '../trace/report/json.ts';
import { reportText } from '../trace/report/text.ts';
import type { StartedQemuGuestContainer } from './started-qemu-guest.ts';

type Sources = Readonly<Record<string, () => Promise<string | Buffer>>>;

/** Gives the paths of what was written, the findings first. What one source cannot give does not cost the others. */
export async function writeArtefacts(
  directory: string,
  machine: MachineDescription,
  { findings, lost }: FindingsAnswer,
  sources: Sources,
): Promise<string[]> {
  const folder = resolve(directory);
  await mkdir(folder, { recursive: true });
  const options = { lost, machine };
  const all: Sources = {
    'findings.txt': async () => reportText(findings, false, options),
    'findings.json': async () => `${JSON.stringify(reportJson(findings, options), undefined, 2)}\n`,
    ...sources,
  };
  const written: string[] = [];
  for (const [name, get] of Object.entries(all)) {
    let path = join(folder, name);
    let content: string | Buffer;
    try {
      content = await get();
    } catch (error) {
      path = `${path}.error`;
      content = `${name} could not be had: ${(error as Error).message}\n`;
    }
    await writeFile(path, content);
    written.push(path);
  }
  return written;
}

/** What this needs of the test that vitest hands to it, and to `beforeEach`. */
export interface RunningTest {
  readonly task: { readonly name: string; readonly result?: { readonly state: string } | undefined };
  onTestFailed(work: () => Promise<void>): void;
}

/** What this needs of a guest. */
type Guest = Pick<StartedQemuGuestContainer, 'saveArtefacts' | 'onStop' | 'isStopped' | 'machine'>;

/**
 * Keeps what explains a failure of this test, and says on standard error what was found. Works where the guest is stopped in
 * `afterEach` too, which comes before vitest tells of the failure.
 *
 *     it('works', async test => {
 *       artefactsOnFailure(test, guest, 'artefacts');
 */
export function artefactsOnFailure(
  test: RunningTest,
  guest: Guest,
  directory: string,
  say: (text: string) => void = text => console.error(text),
): void {
  let kept = false;
  const keep = async () => {
    if (kept) return;
    kept = true;
    const { findings } = await guest.machine.findingsAnswer();
    const written = await guest.saveArtefacts(directory);
    const explained = findings.length > 0 ? reportText(findings) : '';
    say(`${explained}Artefacts of '${test.task.name}':\n${written.map(path => `  ${path}`).join('\n')}`);
  };
  guest.onStop(async () => {
    if (test.task.result?.state === 'fail') await keep();
  });
  test.onTestFailed(async () => {
    if (!guest.isStopped) await keep();
  });
}
