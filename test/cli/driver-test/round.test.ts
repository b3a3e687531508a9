import { describe, expect, it } from 'vitest';
import { type CommandResult, GuestGone, GuestRestarted, type RunOptions } from '../../../images/guest/agent.ts';
import type { TestGuest } from '../../../src/cli/driver-test/guest.ts';
import type { ModuleToLoad } from '../../../src/cli/driver-test/payload.ts';
import type { PlannedCase } from '../../../src/cli/driver-test/plan.ts';
import { type RoundOptions, type RoundResult, TestRound } from '../../../src/cli/driver-test/round.ts';
import { CommandFailure } from '../../../src/cli/errors.ts';

type Answer = Partial<CommandResult> | Error;
const BUG = '[    9.000000] BUG: something';

const module = (name: string, isNeeded = false, parameters = ''): ModuleToLoad => ({
  label: `${name}.ko`,
  name,
  guestPath: `/test/modules/${name}.ko`,
  parameters,
  isNeeded,
});
const script = (name: string): PlannedCase => ({
  name,
  guestPath: `/test/${name}`,
  arguments: ["it's"],
  isForShell: false,
});

interface Rig {
  readonly result: RoundResult;
  readonly commands: readonly string[];
  readonly told: readonly string[];
}

/** A round in a guest that answers so to commands that match, and is content with all others. */
async function round(
  answers: readonly (readonly [RegExp, Answer])[],
  what: { modules?: ModuleToLoad[]; cases?: string[]; stopped?: boolean; options?: Partial<RoundOptions> } = {},
): Promise<Rig> {
  const commands: string[] = [];
  const told: string[] = [];
  const left = [...answers];
  const agent = {
    run: async (command: string, { onLine }: RunOptions = {}) => {
      commands.push(command);
      const index = left.findIndex(([pattern]) => pattern.test(command));
      const [[, answer]] = index < 0 ? [[/./, {}] as const] : left.splice(index, 1);
      if (answer instanceof Error) throw answer;
      for (const line of answer!.output ?? []) onLine?.(line);
      return { status: 0, output: [], ...answer };
    },
  };
  const guest = {
    agent,
    said: [],
    alive: <T>(work: Promise<T>) => work,
    lastWords: async () => {
      (guest.said as string[]).push('[    1.0] Kernel panic - not syncing: x');
    },
    run: { host: { stoppedByFinding: what.stopped ?? false }, qemu: { stderr: () => 'qemu: died\n' } },
  };
  const payload = { modules: what.modules ?? [], files: [] };
  const options: RoundOptions = {
    timeoutSeconds: 5,
    unload: false,
    kernelProblemsFail: true,
    onBegin: name => told.push(`begin ${name}`),
    onLine: line => told.push(line),
    onEnd: ({ name, outcome }) => told.push(`${outcome} ${name}`),
    ...what.options,
  };
  const result = await new TestRound(guest as unknown as TestGuest, payload, options).run(
    (what.cases ?? []).map(script),
  );
  return { result, commands, told };
}

const outcomes = ({ result }: Rig) => [...result.modules, ...result.cases, ...result.unloads].map(one => one.outcome);
const reasons = ({ result }: Rig) => [...result.modules, ...result.cases].map(one => one.reason);

describe('a round', () => {
  it('loads, runs, and tells it as it goes', async () => {
    const rig = await round([[/run-case/, { output: ['hello'] }]], {
      modules: [module('my', false, 'a=1')],
      cases: ['a.sh'],
    });
    expect(rig.told).toEqual(['begin load my.ko a=1', 'passed load my.ko a=1', 'begin a.sh', 'hello', 'passed a.sh']);
    expect(rig.commands).toContain('insmod /test/modules/my.ko a=1');
    expect(rig.commands).toContain("/sbin/run-case 5 /test /test/a.sh 'it'\\''s'");
  });

  it('gives back the devices that no module took', async () => {
    const taken = { output: ['1234 11e8', '1234 11e8', 'nonsense'] };
    const { commands } = await round([[/remove_id/, taken]], { modules: [module('my')] });
    const [release, load, rebind] = ['remove_id', 'insmod', '>/sys/bus/pci/drivers/vfio-pci/new_id'].map(text =>
      commands.findIndex(command => command.includes(text)),
    );
    expect(release).toBeGreaterThanOrEqual(0);
    expect(load).toBeGreaterThan(release!);
    expect(rebind).toBeGreaterThan(load!);
    expect(commands.filter(command => command.includes('echo 1234 11e8 >'))).toHaveLength(1);
  });

  it('leaves the devices to vfio-pci where there is no module', async () => {
    expect((await round([], { cases: ['a.sh'] })).commands.join()).not.toContain('remove_id');
  });

  it('runs no script where a module was not loaded, and shows what the kernel said', async () => {
    const answers: [RegExp, Answer][] = [
      [/insmod/, { status: 1, output: ["insmod: can't insert"] }],
      [/dmesg/, {}],
      [/dmesg/, { output: ['[ 1.0] my: no device'] }],
    ];
    const rig = await round(answers, { modules: [module('my'), module('other')], cases: ['a.sh'] });
    expect(outcomes(rig)).toEqual(['failed', 'not-run']);
    expect(reasons(rig)).toEqual([
      "the module could not be loaded: insmod: can't insert",
      'its modules were not all loaded',
    ]);
    expect(rig.result.modules[0]!.kernelLog).toEqual(['[ 1.0] my: no device']);
  });

  it('tells of a needed module only where it fails, and skips it where it is there', async () => {
    const modules = [module('near', true), module('my')];
    const good = await round([], { modules });
    expect(good.result.modules.map(({ name }) => name)).toEqual(['load my.ko']);
    expect(good.commands).toContain('[ -d /sys/module/near ] || insmod /test/modules/near.ko');
    const bad = await round([[/near/, { status: 1 }]], { modules });
    expect(bad.result.modules.map(({ name, outcome }) => [name, outcome])).toEqual([['load near.ko', 'failed']]);
  });

  it('goes on after a script that fails', async () => {
    const rig = await round([[/a\.sh/, { status: 3 }]], { cases: ['a.sh', 'b.sh'] });
    expect(outcomes(rig)).toEqual(['failed', 'passed']);
    expect(reasons(rig)[0]).toBe('status 3');
  });

  it.each([
    [127, /not found/],
    [126, /cannot be executed/],
    [139, /ended by signal 11/],
  ])('explains status %d', async (status, reason) => {
    expect(reasons(await round([[/a\.sh/, { status }]], { cases: ['a.sh'] }))[0]).toMatch(reason);
  });

  it('tells a script that was killed for its time from one that killed itself', async () => {
    const late = await round(
      [
        [/a\.sh/, { status: 137, output: ['begun'] }],
        [/case-late/, { output: ['late'] }],
      ],
      { cases: ['a.sh'] },
    );
    expect(late.result.cases[0]).toMatchObject({
      outcome: 'timed-out',
      output: ['begun'],
      reason: 'killed after 5 s (--timeout)',
    });
    expect(outcomes(await round([[/a\.sh/, { status: 137 }]], { cases: ['a.sh'] }))).toEqual(['failed']);
  });

  const problem: [RegExp, Answer][] = [
    [/dmesg/, {}],
    [/dmesg/, { output: [BUG] }],
  ];

  it('takes what the kernel reports for a failure of the script that ran, and goes on', async () => {
    const rig = await round(problem, { cases: ['a.sh', 'b.sh'] });
    expect(outcomes(rig)).toEqual(['failed', 'passed']);
    expect(reasons(rig)[0]).toBe('the kernel reported: BUG: something');
  });

  it('only tells of it where that is wanted', async () => {
    const rig = await round(problem, { cases: ['a.sh'], options: { kernelProblemsFail: false } });
    expect(outcomes(rig)).toEqual(['passed']);
    expect(rig.result.cases[0]!.kernelProblems).toHaveLength(1);
  });

  it('does not blame a script for what the kernel reported while it started', async () => {
    const rig = await round([[/dmesg/, { output: [BUG] }]], { cases: ['a.sh'] });
    expect(outcomes(rig)).toEqual(['passed']);
    expect(rig.result.bootProblems).toHaveLength(1);
  });

  it.each<[string, Error, string, RegExp]>([
    ['panics', new CommandFailure("the guest's kernel panicked:\n..."), 'failed', /^the guest's kernel panicked$/],
    ['restarts', new GuestRestarted('x'), 'failed', /^the guest restarted$/],
    ['goes away', new GuestGone('the port was closed'), 'failed', /the port was closed\nqemu: died/],
    [
      'does not let go of a script',
      new Error('Not done within 25000 ms in the guest: x'),
      'timed-out',
      /could not even be killed/,
    ],
  ])('runs nothing more in a guest that %s', async (_, error, outcome, reason) => {
    const rig = await round([[/a\.sh/, error]], {
      cases: ['a.sh', 'b.sh'],
      modules: [module('my')],
      options: { unload: true },
    });
    expect(outcomes(rig)).toEqual(['passed', outcome, 'not-run', 'not-run']);
    expect(reasons(rig)[1]).toMatch(reason);
    expect(reasons(rig)[2]).toBe('the guest was lost in a.sh');
  });

  it('says that the sanitizer stopped the machine', async () => {
    const rig = await round([[/a\.sh/, new GuestGone('x')]], { cases: ['a.sh'], stopped: true });
    expect(reasons(rig)).toEqual(['the sanitizer stopped the machine at a finding']);
  });

  it('unloads in the opposite order, what the user named only, and fails where that fails', async () => {
    const modules = [module('near', true), module('one'), module('two')];
    const rig = await round([[/rmmod one/, { status: 1, output: ['in use'] }]], { modules, options: { unload: true } });
    expect(rig.result.unloads.map(({ name, outcome }) => [name, outcome])).toEqual([
      ['unload two.ko', 'passed'],
      ['unload one.ko', 'failed'],
    ]);
    expect(rig.result.unloads[1]!.reason).toBe('the module could not be removed: in use');
  });
});
