import { Command, CommanderError } from 'commander';
import { describe, expect, it } from 'vitest';
import {
  addSanitizeOptions,
  type FailOn,
  failsOn,
  parseFailOn,
  type SanitizeFlags,
} from '../../src/cli/sanitize-options.ts';
import { EventClass } from '../../src/trace/event-kinds.ts';
import { DETECTOR_NAMES } from '../../src/trace/sanitizer/detectors.ts';
import { parsePolicy } from '../../src/trace/sanitizer/policy.ts';

function parse(...words: string[]): SanitizeFlags {
  const command = addSanitizeOptions(new Command().exitOverride().configureOutput({ writeErr: () => {} }));
  return command.parse(words, { from: 'user' }).opts();
}

function refusal(...words: string[]): string {
  try {
    parse(...words);
  } catch (error) {
    expect(error).toBeInstanceOf(CommanderError);
    return (error as Error).message;
  }
  throw new Error('it was taken');
}

describe('the flags of the debugger', () => {
  it('look for mistakes unless told otherwise, keep nothing, and never fail', () => {
    const { sanitize, failOn, report, record, recordClasses } = parse();
    expect(sanitize).toEqual(parsePolicy('on'));
    expect(failOn).toBe('never');
    expect([report, record]).toEqual([undefined, undefined]);
    for (const bit of Object.values(EventClass)) expect(recordClasses & bit).toBe(bit);
  });

  it('take a policy', () => {
    const { sanitize } = parse('--sanitize', 'stale-iotlb=stop,-register-spin');
    expect(sanitize).toEqual({ ...parsePolicy('on'), 'stale-iotlb': 'stop', 'register-spin': 'off' });
  });

  it('take several reports, and know the format by the name', () => {
    const names = ['a.json', '/b/c.sarif', 'd.e.xml', 'f.txt'];
    const { report } = parse(...names.flatMap(name => ['--report', name]));
    expect(report).toEqual([
      { path: 'a.json', format: 'json' },
      { path: '/b/c.sarif', format: 'sarif' },
      { path: 'd.e.xml', format: 'junit' },
      { path: 'f.txt', format: 'text' },
    ]);
  });

  it('take the classes to record', () => {
    const flags = parse('--record', 'run.viommu', '--record-classes', 'dma,mapping');
    expect(flags).toMatchObject({ record: 'run.viommu', recordClasses: EventClass.dma | EventClass.mapping });
  });

  it.each([
    ['--sanitize', 'everything', /everything.*stale-iotlb/],
    ['--sanitize', 'stale-iotlb=die', /stale-iotlb=die.*off, warn, stop/],
    ['--fail-on', 'error', /'error' is neither never, warning, note nor a detector/],
    ['--fail-on', 'stale-iotlb,stale', /'stale' is neither/],
    ['--fail-on', '', /'' is neither/],
    ['--report', 'findings', /'findings': the name says which format is meant, \.json, \.sarif, \.xml, \.txt/],
    ['--report', 'findings.html', /findings\.html/],
    ['--record-classes', 'dma,everything', /everything/],
  ])('%s %s is refused with what to write', (flag, value, message) => {
    const text = refusal(flag, value);
    expect(text).toMatch(message);
    expect(text).toContain(flag);
  });
});

describe('parseFailOn', () => {
  it.each(['never', 'warning', 'note'])('takes %s', word => {
    expect(parseFailOn(word)).toBe(word);
  });

  it('takes a list of detectors', () => {
    expect(parseFailOn('stale-iotlb, never-mapped')).toEqual(new Set(['stale-iotlb', 'never-mapped']));
    expect(parseFailOn(DETECTOR_NAMES.join(','))).toEqual(new Set(DETECTOR_NAMES));
  });
});

describe('failsOn', () => {
  const severities = ['note', 'warning', 'stop'] as const;
  const verdicts = (failOn: FailOn) =>
    severities.map(severity => failsOn(failOn, { detector: 'stale-iotlb', severity }));

  it.each([
    ['never', [false, false, true]],
    ['warning', [false, true, true]],
    ['note', [true, true, true]],
  ] as const)('%s: note, warning and stop give %j', (failOn, expected) => {
    expect(verdicts(failOn)).toEqual(expected);
  });

  it('goes by the detectors that are named, whatever their severity', () => {
    expect(verdicts(new Set(['stale-iotlb'] as const))).toEqual([true, true, true]);
    expect(verdicts(new Set(['never-mapped'] as const))).toEqual([false, false, true]);
  });
});
