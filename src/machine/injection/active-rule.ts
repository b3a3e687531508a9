/** A rule at work, and the place where those of one sort and one device are asked. */
import type { Trace, TraceValue } from '../../trace/trace.ts';
import type { InjectionRule, InjectionState } from './rules.ts';

export class ActiveRule<Rule extends InjectionRule = InjectionRule> {
  /** How often it has applied. */
  applied = 0;
  /** Pieces of work that wait because of it. */
  held = 0;
  private left: number;

  constructor(
    readonly id: number,
    readonly rule: Rule,
    /** Whose rule it is, in notes. */
    private readonly source: string,
    private readonly trace: Trace,
    private readonly place: RulePlace<Rule>,
  ) {
    this.left = rule.kind === 'hold' ? Number.POSITIVE_INFINITY : (rule.times ?? 1);
    place.add(this);
  }

  get state(): InjectionState {
    const { id, rule, applied, held } = this;
    return { id, rule, applied, held, over: this.left === 0 };
  }

  get over(): boolean {
    return this.left === 0;
  }

  /** Notes that it applies once more; it leaves its place when that was the last time. */
  apply(detail: Readonly<Record<string, TraceValue>>): void {
    this.applied++;
    this.left--;
    if (this.left === 0) this.place.remove(this);
    this.trace.note('injection.applied', this.source, {
      injection: this.id,
      rule: this.rule.kind,
      applied: this.applied,
      ...detail,
    });
  }

  /** It does not apply any more, and holds nothing. */
  end(): void {
    this.left = 0;
    this.place.remove(this);
    this.place.letGo(this);
  }
}

/** The rules that are not over, in the order in which they came. */
export class RulePlace<Rule extends InjectionRule> {
  /** Undefined while there are none, so that whoever is in between asks for nothing but that. */
  rules: readonly ActiveRule<Rule>[] | undefined;

  add(rule: ActiveRule<Rule>): void {
    this.rules = [...(this.rules ?? []), rule];
  }

  remove(rule: ActiveRule<Rule>): void {
    const left = this.rules?.filter(one => one !== rule) ?? [];
    this.rules = left.length > 0 ? left : undefined;
  }

  /** What it holds is not to be held any longer. */
  letGo(_rule: ActiveRule<Rule>): void {}
}
