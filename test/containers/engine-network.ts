/** What the tests' own engine needs of the machine's network, and how it is given back. */
import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { run } from '../../qemu/run.ts';

/** At most 15 characters: the kernel's limit for names of interfaces. */
export const BRIDGE = 'viommu-test';
const BRIDGED_FRAMES_ARE_FILTERED = '/proc/sys/net/bridge/bridge-nf-call-iptables';
/** Frames that a bridge passes on. What is routed is none of our business. */
const RULE = ['FORWARD', '-m', 'physdev', '--physdev-is-bridged', '-m', 'comment', '--comment', BRIDGE, '-j', 'ACCEPT'];

/**
 * Makes the bridge. Where an engine has run on this machine before, the packet filter may drop what it does not know even on
 * bridges; only there it gets one rule, so that containers on one network hear each other.
 */
export async function makeNetwork(): Promise<void> {
  removeNetwork();
  await must(['ip', 'link', 'add', 'name', BRIDGE, 'type', 'bridge']);
  await must(['ip', 'link', 'set', BRIDGE, 'up']);
  if (await filtersBridges()) await must(['iptables', '--wait', '--insert', ...RULE]);
}

/** Does nothing where there is none of it. At once, because a process that is ending has no time. */
export function removeNetwork(): void {
  const succeeds = (command: string, ...argv: readonly string[]) => spawnSync(command, argv).status === 0;
  if (succeeds('ip', 'link', 'show', BRIDGE)) spawnSync('ip', ['link', 'delete', BRIDGE]);
  if (succeeds('iptables', '--wait', '--check', ...RULE)) spawnSync('iptables', ['--wait', '--delete', ...RULE]);
}

async function filtersBridges(): Promise<boolean> {
  try {
    return (await readFile(BRIDGED_FRAMES_ARE_FILTERED, 'utf8')).trim() === '1';
  } catch (error) {
    // The kernel's module for it is not loaded.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw error;
  }
}

async function must(argv: readonly string[]): Promise<void> {
  const { status, stderr } = await run(argv);
  if (status !== 0) throw new Error(`${argv.join(' ')} ends with ${status}: ${stderr.trim()}`);
}
