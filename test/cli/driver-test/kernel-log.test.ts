import { describe, expect, it } from 'vitest';
import { kernelProblems } from '../../../src/cli/driver-test/kernel-log.ts';

const log = (...lines: string[]) => lines.map((line, index) => `[    ${index}.123456] ${line}`);
const headlines = (lines: readonly string[]) => kernelProblems(lines).map(({ headline }) => headline);

const OOPS = log(
  'my: probing',
  'BUG: kernel NULL pointer dereference, address: 0000000000000008',
  '#PF: supervisor write access in kernel mode',
  '#PF: error_code(0x0002) - not-present page',
  'PGD 1b506067 P4D 1b506067 PUD 1b507067 PMD 0 ',
  'Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI',
  'CPU: 0 UID: 0 PID: 173 Comm: insmod Tainted: G           OE      6.12.107+deb13-amd64 #1',
  'Call Trace:',
  ' <TASK>',
  ' do_one_initcall+0x5b/0x310',
  ' ? srso_alias_return_thunk+0x5/0xfbef5',
  ' </TASK>',
  '---[ end trace 0000000000000000 ]---',
  'my: something else',
);

describe('kernelProblems', () => {
  it('finds nothing in what kernels say anyway', () => {
    const harmless = log(
      'edu_fill: loading out-of-tree module taints kernel.',
      'edu_fill: module verification failed: signature and/or required key missing - tainting kernel',
      'DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0xffff000 [fault reason 0x05] PTE Write access is not set',
      'my: no BUG: here, and no WARNING: either',
      'random: crng init done',
    );
    expect(kernelProblems(harmless)).toEqual([]);
  });

  it('takes an oops for one problem, from its first line to its last', () => {
    const [problem, ...more] = kernelProblems(OOPS);
    expect(more).toEqual([]);
    expect(problem!.headline).toBe('BUG: kernel NULL pointer dereference, address: 0000000000000008');
    expect(problem!.lines).toEqual(OOPS.slice(1, -1));
  });

  it('tells two warnings apart, also where the first has no end', () => {
    const first = log('WARNING: CPU: 1 PID: 1 at a.c:1 f+0x1/0x2', 'Modules linked in: a', ' f+0x1/0x2');
    const second = log('my: fine', 'WARNING: CPU: 0 PID: 2 at b.c:2 g+0x3/0x4', '---[ end trace 0000000000000000 ]---');
    expect(kernelProblems([...first, ...second]).map(({ lines }) => lines.length)).toEqual([3, 2]);
  });

  it.each([
    'Kernel panic - not syncing: Fatal exception',
    'general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1] PREEMPT SMP',
    'watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [insmod:170]',
    'INFO: task insmod:170 blocked for more than 120 seconds.',
    'rcu: INFO: rcu_preempt self-detected stall on CPU',
    'DMA-API: edu_fill 0000:01:00.0: device driver frees DMA memory with different size',
    'refcount_t: underflow; use-after-free.',
    'list_del corruption, ffff888001 is LIST_POISON1',
    'irq 11: nobody cared (try booting with the "irqpoll" option)',
    'kernel BUG at mm/slub.c:434!',
  ])('knows %s', line => {
    expect(headlines(log('before', line, 'after'))).toEqual([line]);
  });

  it('reads logs with levels and with callers', () => {
    expect(
      headlines(['<4>[    1.000000] WARNING: CPU: 0 at x', '[    2.000000][    T1] BUG: sleeping function']),
    ).toEqual(['WARNING: CPU: 0 at x', 'BUG: sleeping function']);
  });

  it('keeps no more of a flood than it needs', () => {
    const flood = Array.from({ length: 5000 }, () => OOPS).flat();
    const problems = kernelProblems(flood);
    expect(problems).toHaveLength(100);
    const endless = [...OOPS.slice(0, 3), ...Array.from({ length: 5000 }, () => '[ 1.0]  f+0x1/0x2')];
    expect(kernelProblems(endless)[0]!.lines.length).toBeLessThanOrEqual(80);
  });
});
