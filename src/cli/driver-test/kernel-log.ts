/** Finds what a kernel log says went wrong in the kernel itself: oopses, warnings, reports of its own checkers. */

export interface KernelProblem {
  /** The first line, without its time. */
  readonly headline: string;
  /** The whole report, as the log has it. */
  readonly lines: readonly string[];
}

/** Of one report; a log that floods is cut there. */
const MAX_REPORT_LINES = 80;
/** Of one log. */
const MAX_PROBLEMS = 100;

const TIME = /^(?:<\d+>)?\[\s*\d+\.\d+\](?:\[[^\]]*\])? /;
/** How reports begin (Linux: arch/x86/kernel/traps.c, dumpstack.c, fault.c; lib/bug.c; kernel/panic.c; the checkers' own files). */
const BEGINS = [
  /^BUG: /,
  /^kernel BUG at /,
  /^WARNING: /,
  /^Oops\b/,
  /^general protection fault/,
  /^(?:int3|invalid opcode|divide error|stack segment|double fault|alignment check): /,
  /^unchecked MSR access error/,
  /^Kernel panic /,
  /^INFO: (?:task |possible |trying to register |rcu)/,
  /^rcu: INFO: /,
  /^watchdog: BUG: /,
  /^(?:KASAN|UBSAN|KCSAN|KMSAN|KFENCE): /,
  /^DMA-API: /,
  /\bDMA-API: device driver\b/,
  /^list_(?:add|del) corruption/,
  /^usercopy: /,
  /^irq \d+: nobody cared/,
  /^refcount_t: /,
  /^sysfs: cannot create duplicate/,
  /^debugfs: .* already present/,
];
/** What follows a first line belongs to it until then. */
const ENDS = /^---\[ end (?:trace|Kernel panic)/;
/** Lines that a report has, so that one without an end is told from what the kernel says next. */
const BELONGS =
  /^(?:#PF: |PGD |Oops|CPU: |Hardware name: |RIP: |Code: |RSP: |R[A-Z0-9]{2}: |FS: |CS: |CR2: |DR\d: |PKRU: |Call Trace| ?<\/?(?:TASK|IRQ|NMI)>$| *(?:\? )?[\w.]+\+0x|Modules linked in|Tainted: |---\[|Kernel Offset|Workqueue: |irq event|Kernel panic)/;

/** The problems in a kernel log, in its order. */
export function kernelProblems(log: readonly string[]): KernelProblem[] {
  const problems: { headline: string; lines: string[] }[] = [];
  let open: { headline: string; lines: string[] } | undefined;
  for (const line of log) {
    const text = line.replace(TIME, '');
    if (open !== undefined) {
      open = goOn(open, line, text);
      if (open !== undefined || ENDS.test(text)) continue;
    }
    if (!BEGINS.some(pattern => pattern.test(text))) continue;
    if (problems.length === MAX_PROBLEMS) break;
    open = { headline: text, lines: [line] };
    problems.push(open);
  }
  return problems;
}

/** The report, while it goes on. */
function goOn<Report extends { readonly lines: string[] }>(
  report: Report,
  line: string,
  text: string,
): Report | undefined {
  const isEnd = ENDS.test(text);
  if (!isEnd && !BELONGS.test(text)) return undefined;
  if (report.lines.length < MAX_REPORT_LINES) report.lines.push(line);
  return isEnd ? undefined : report;
}
