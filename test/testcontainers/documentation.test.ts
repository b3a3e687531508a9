import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { StartedQemuGuestContainer } from '../../src/testcontainers/started-qemu-guest.ts';
import { StartedViommuContainer } from '../../src/testcontainers/started-viommu.ts';
import * as module from '../../src/testcontainers/viommu-container.ts';
import { repository } from '../support.ts';

const page = readFileSync(join(repository, 'docs', 'testcontainers.md'), 'utf8');
const example = readFileSync(join(repository, 'examples', 'driver-test', 'test', 'edu-dma.test.ts'), 'utf8');

function members(type: { readonly prototype: object }): Set<string> {
  const names = new Set<string>();
  for (let at = type.prototype; at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const name of Object.getOwnPropertyNames(at)) names.add(name);
  }
  return names;
}

describe('docs/testcontainers.md', () => {
  it('imports what is exported', () => {
    const [, names = ''] = /import \{ ([^}]+) \} from 'viommu\/testcontainers'/.exec(page) ?? [];
    expect(names.split(', ')).toHaveLength(4);
    for (const name of names.split(', ')) expect(module).toHaveProperty(name);
  });

  it('calls what exists', () => {
    const own = { server: members(StartedViommuContainer), guest: members(StartedQemuGuestContainer) };
    const calls = [...page.matchAll(/\b(server|guest)\.(\w+)\(/g)];
    expect(calls.length).toBeGreaterThan(10);
    for (const [call, name, method] of calls) expect(own[name as keyof typeof own], call).toContain(method);
    const describing = new Set([...members(module.ViommuContainer), ...members(module.QemuGuestContainer)]);
    for (const [call, method] of page.matchAll(/\.(with\w+)\(/g)) expect(describing, call).toContain(method);
  });

  it("has the example project's test", () => {
    const lines = (code: string) =>
      code
        .split('\n')
        .map(line => line.trim())
        .filter(
          line => line.startsWith('await expect') || line.startsWith('artefactsOnFailure') || line.startsWith('import'),
        );
    const [, code = ''] = /```ts\n(.*?)```/s.exec(page) ?? [];
    expect(lines(code)).toEqual(lines(example));
  });
});
