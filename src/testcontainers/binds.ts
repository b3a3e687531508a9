/** Mounts of ours beside those that the test has asked for: `withBindMounts` would put ours in their place. */

/** `binds`: as the engine takes them. What was mounted there before is replaced, because a container may be started again. */
export function withBind(binds: readonly string[] | undefined, source: string, target: string): string[] {
  const others = (binds ?? []).filter(bind => bind.split(':')[1] !== target);
  return [...others, `${source}:${target}:rw`];
}
