import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkInjectionRule } from '../../src/machine/injection/rules.ts';
import { TestGuest } from '../../src/testing/guest.ts';
import { GuestFunction } from '../../src/testing/guest-function.ts';
import { GuestRam } from '../../src/testing/guest-memory.ts';
import { Injected } from '../../src/testing/injected.ts';
import * as testing from '../../src/testing/machine.ts';
import { VtdDriver } from '../../src/testing/vtd-driver.ts';
import { repository } from '../support.ts';

const page = readFileSync(join(repository, 'docs', 'testing.md'), 'utf8');
const example = readFileSync(join(repository, 'test', 'testing', 'example.test.ts'), 'utf8');

/** What stands in code marks. */
const words = [...page.matchAll(/`([^`\n]+)`/g)].map(([, word]) => word!);

describe('docs/testing.md', () => {
  it('shows the example that is tested', () => {
    const [, code] = /```ts example\.test\.ts\n(.*?)```/s.exec(page) ?? [];
    expect(code).toBe(example);
  });

  it('calls what exists', () => {
    const own = { machine: testing.TestMachine, guest: TestGuest, held: Injected };
    const calls = [...page.matchAll(/\b(machine|guest|held)\.(\w+)\(/g)];
    expect(calls.length).toBeGreaterThan(15);
    for (const [call, name, method] of calls) {
      expect(Object.getOwnPropertyNames(own[name as keyof typeof own].prototype), call).toContain(method);
    }
    for (const [call, name] of page.matchAll(/\b(startMachine|attachMachine|watchMachine)\(/g)) {
      expect(testing, call).toHaveProperty(name!);
    }
  });

  it.each([
    [VtdDriver, ['createDomain', 'attach', 'detach', 'map', 'unmap', 'clear', 'queueFlush']],
    [GuestFunction, ['read32', 'write64', 'takeInterrupts', 'reset', 'busMaster']],
    [GuestRam, ['allocate', 'read', 'write', 'read32', 'write32', 'read64', 'write64']],
  ])('names members of %s that exist', (owner, names) => {
    for (const name of names) {
      expect(page).toMatch(new RegExp(`\`${name}\\b|\\.${name}\\b`));
      expect(Object.getOwnPropertyNames(owner.prototype)).toContain(name);
    }
  });

  it('knows all rules of injection, and their members', () => {
    const rules = words.filter(word => word.startsWith("{ kind: '"));
    const samples: Record<string, unknown> = {
      device: 'edu0',
      iova: 4096n,
      bytes: 4096n,
      access: 'read',
      times: 1,
      direction: 'write',
      bit: 0,
      vector: 0,
      milliseconds: 1,
    };
    const kinds = rules.map(rule => {
      const [, kind, members] = /^\{ kind: '([\w-]+)'(.*) \}$/.exec(rule)!;
      const names = members!
        .split(', ')
        .filter(name => name !== '')
        .map(name => name.replace('?', ''));
      const given = Object.fromEntries(names.map(name => [name, samples[name]]));
      expect(checkInjectionRule({ kind, ...given })).toEqual({ kind, ...given });
      return kind!;
    });
    const refused = checkInjectionRule({ kind: '' }) as Error;
    for (const kind of kinds) expect(refused.message).toContain(kind);
    expect(refused.message.match(/[a-z]+(-[a-z]+)+/g)?.filter(name => !kinds.includes(name))).toEqual([]);
  });
});
