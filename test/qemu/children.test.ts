import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../support.ts';

const children = join(repository, 'dist/qemu/children.js');

/** A process with two children, the first of which cannot be ended; `ending` is how it ends itself. */
function endsBy(ending: string) {
  const program = `import { endWithProcess } from ${JSON.stringify(children)};
    endWithProcess({ endNow() { throw new Error('cannot be ended'); }, askToEnd() {} });
    endWithProcess({ endNow() { console.log('ended'); }, askToEnd() {} });
    ${ending}`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', program], { encoding: 'utf8', timeout: 60_000 });
}

describe('what ends with the process', () => {
  it.each([
    ['its own will', 'process.exit(0);'],
    ['a signal', "process.kill(process.pid, 'SIGTERM'); setInterval(() => {}, 1000);"],
  ])('ends by %s although something before it cannot be ended, which is told', (_, ending) => {
    const { stdout, stderr } = endsBy(ending);
    expect(stdout).toMatch(/^ended\n/);
    expect(stderr).toContain('cannot be ended');
  });
});
