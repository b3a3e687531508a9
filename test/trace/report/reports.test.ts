import { describe, expect, it } from 'vitest';
import { reportJson } from '../../../src/trace/report/json.ts';
import { escapeXml, reportJunit } from '../../../src/trace/report/junit.ts';
import { reportSarif } from '../../../src/trace/report/sarif.ts';
import { reportText } from '../../../src/trace/report/text.ts';
import { DETECTOR_NAMES } from '../../../src/trace/sanitizer/detectors.ts';
import type { Finding } from '../../../src/trace/sanitizer/finding.ts';
import { MS, Scenario } from '../sanitizer/scenario.ts';

const scenario = new Scenario({ policy: 'dma-before-flush=stop' }).attach().map(0x5000).after(MS);
scenario.stale(0x5000).after(MS).unmapAndFlush(0x5000).after(MS).refused(0x5000).after(MS).refused(0x5008);
scenario.map(0x9000).finish();
const findings = scenario.findings;

const hostile: Finding = {
  ...findings[0]!,
  summary: '<b>"x" & \'y\'</b> ]]> \u001b[31m\u0000\ud800 end',
  device: '</testsuite>',
};

/** Elements and text, or an error, so that the XML is seen to be well-formed. */
function parseXml(text: string): { name: string; attributes: Record<string, string> }[] {
  const elements: { name: string; attributes: Record<string, string> }[] = [];
  const open: string[] = [];
  const token = /<\?xml [^>]*\?>|<(\/?)([a-z-]+)((?: [a-z]+="[^"<]*")*)(\/?)>|([^<]+)/gy;
  let end = 0;
  for (const match of text.matchAll(token)) {
    end = match.index + match[0].length;
    const [whole, closing, name = '', attributes = '', empty, content] = match;
    if (/&(?!(amp|lt|gt|quot|apos);)/.test(whole)) throw new Error(`a bare & in ${whole}`);
    if (content !== undefined || whole.startsWith('<?')) continue;
    if (closing === '/') {
      if (open.pop() !== name) throw new Error(`</${name}> closes another element`);
      continue;
    }
    const pairs = [...attributes.matchAll(/ ([a-z]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]);
    elements.push({ name, attributes: Object.fromEntries(pairs) });
    if (empty !== '/') open.push(name);
  }
  if (end !== text.length || open.length > 0)
    throw new Error(`not well-formed at ${end}: ${text.slice(end, end + 40)}`);
  return elements;
}

describe('the findings of these tests', () => {
  it('are one of each severity', () => {
    expect(findings.map(({ detector, severity }) => [detector, severity])).toEqual([
      ['dma-before-flush', 'stop'],
      ['use-after-unmap', 'warning'],
      ['mapping-leak', 'note'],
    ]);
  });
});

describe('the text report', () => {
  it('shows each finding with its history and counts', () => {
    const text = reportText(findings);
    expect(text).toContain('F2 use-after-unmap (warning) 2 times within 1 ms');
    expect(text).toMatch(/1\.003000 s {2}mapping\.added \[iommu\]|mapping\.added \[iommu\]/);
    expect(text).toContain('What to look for: Stop the device');
    expect(text.trimEnd().split('\n').at(-1)).toBe('3 findings: 1 that stopped the machine, 1 warning, 1 note');
  });

  it('has no line of more than 100 characters, and no space at an end', () => {
    for (const line of reportText(findings).split('\n')) {
      expect(line.length).toBeLessThanOrEqual(100);
      expect(line).toBe(line.trimEnd());
    }
  });

  it('is coloured only where asked', () => {
    expect(reportText(findings)).not.toContain('\u001b');
    expect(reportText(findings, true)).toContain('\u001b[31m');
  });

  it('lets nothing through that moves a cursor', () => {
    expect(reportText([hostile])).not.toContain('\u001b');
    expect(reportText([hostile])).not.toContain('\u0000');
  });

  it('says that there are none, and how many were not kept', () => {
    expect(reportText([])).toBe('No findings.\n');
    expect(reportText(findings, false, { lost: 4 })).toContain('4 more occurrences were not kept');
    const some = { lost: 4, lostByDetector: { 'never-mapped': 3, 'stale-iotlb': 1 } } as const;
    expect(reportText(findings, false, some)).toContain('not kept (stale-iotlb: 1, never-mapped: 3)');
  });
});

describe('the JSON report', () => {
  it('is what JSON can hold, with counts', () => {
    const report = reportJson(findings, { version: '1.2.3', machine: { at: 4096n }, lost: 2 });
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    expect(report).toMatchObject({
      format: 'viommu-findings',
      version: 1,
      tool: { name: 'viommu', version: '1.2.3' },
      machine: { at: '0x1000' },
      lost: 2,
      counts: {
        bySeverity: { note: 1, warning: 1, stop: 1 },
        byDetector: { 'dma-before-flush': 1, 'use-after-unmap': 1, 'mapping-leak': 1 },
      },
    });
    expect(report.findings[1]).toMatchObject({ id: 'F2', iova: '0x5000', count: 2, title: 'DMA to an unmapped page' });
  });

  it('leaves out what is not there', () => {
    const report = reportJson(new Scenario().note('vtd.noRootTable', {}).findings);
    expect(report.findings[0]).not.toHaveProperty('iova');
    expect(report).not.toHaveProperty('machine');
  });
});

describe('the SARIF report', () => {
  const report = reportSarif(findings, { version: '1.2.3', lost: 1 }) as {
    version: string;
    runs: [
      {
        tool: {
          driver: {
            name: string;
            version?: string;
            semanticVersion?: string;
            rules: { id: string; shortDescription: { text: string } }[];
          };
        };
        artifacts: { location: { uri: string } }[];
        invocations: { toolExecutionNotifications?: unknown[] }[];
        results: {
          ruleId: string;
          ruleIndex: number;
          level: string;
          message: { text: string };
          locations: {
            physicalLocation: { artifactLocation: { uri: string; index: number } };
            logicalLocations: { fullyQualifiedName: string }[];
          }[];
          codeFlows: { threadFlows: { locations: { executionOrder: number }[] }[] }[];
          occurrenceCount: number;
          partialFingerprints: Record<string, string>;
        }[];
      },
    ];
  };
  const [run] = report.runs;

  it('has a rule for each detector, and results point to theirs', () => {
    expect(report.version).toBe('2.1.0');
    expect(run.tool.driver.rules.map(rule => rule.id)).toEqual([...DETECTOR_NAMES]);
    for (const { ruleId, ruleIndex } of run.results) expect(run.tool.driver.rules[ruleIndex]!.id).toBe(ruleId);
  });

  it('has levels, places and the history', () => {
    expect(run.results.map(result => result.level)).toEqual(['error', 'warning', 'note']);
    const second = run.results[1]!;
    expect(second.locations[0]!.logicalLocations[0]!.fullyQualifiedName).toBe('edu0/domain 5/0x5000');
    expect(second.occurrenceCount).toBe(2);
    expect(second.message.text).toContain('which was unmapped 1 ms before (2 times within 1 ms)');
    const steps = second.codeFlows[0]!.threadFlows[0]!.locations;
    expect(steps.map(step => step.executionOrder)).toEqual(steps.map((_, i) => i + 1));
  });

  it('tells of the version', () => {
    expect(run.tool.driver).toMatchObject({ version: '1.2.3', semanticVersion: '1.2.3' });
    const odd = reportSarif([], { version: 'of today' }) as typeof report;
    expect(odd.runs[0].tool.driver).toMatchObject({ version: 'of today' });
    expect(odd.runs[0].tool.driver).not.toHaveProperty('semanticVersion');
  });

  it('has fingerprints that are the same in every run, and different in one', () => {
    const prints = (all: readonly Finding[]) =>
      (reportSarif(all) as typeof report).runs[0].results.map(one => Object.values(one.partialFingerprints)[0]!);
    const one = findings[1]!;
    const [first, again, samePage, otherPage] = prints([
      one,
      { ...one, id: 'F9', first: 7, count: 3 },
      { ...one, iova: 0x5ff8n },
      { ...one, iova: 0x6000n },
    ]);
    expect(first).toMatch(/^[0-9a-f]{32}:1$/);
    expect([again, samePage]).toEqual([first!.replace(':1', ':2'), first!.replace(':1', ':3')]);
    expect(otherPage).toMatch(/:1$/);
    expect(otherPage).not.toBe(first);
    expect(prints([{ ...one, first: 1, summary: 'x', domain: 77 }])).toEqual([first]);
    expect(new Set(prints(findings)).size).toBe(findings.length);
  });

  it.each([
    [undefined, 'viommu-findings'],
    ['out/my run.viommu', 'out/my%20run.viommu'],
    ['/tmp/a#b.viommu', 'file:///tmp/a%23b.viommu'],
    ['C:\\x\\y.sarif', 'file:///C:/x/y.sarif'],
    ['\ud800.viommu', '%EF%BF%BD.viommu'],
  ])('says that the findings of %s are in %s', (artifact, uri) => {
    const { runs } = reportSarif(findings, artifact === undefined ? {} : { artifact }) as typeof report;
    expect(runs[0].artifacts.map(one => one.location.uri)).toEqual([uri]);
    for (const { locations } of runs[0].results)
      expect(locations[0]!.physicalLocation.artifactLocation).toEqual({ uri, index: 0 });
  });

  it('is what JSON can hold, and says what was lost', () => {
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    expect(run.invocations[0]!.toolExecutionNotifications).toHaveLength(1);
  });
});

describe('the JUnit report', () => {
  it('has a test case for each detector, failed where there is more than a note', () => {
    const elements = parseXml(reportJunit(findings));
    const cases = elements.filter(element => element.name === 'testcase');
    expect(cases.map(one => one.attributes.name)).toEqual([...DETECTOR_NAMES]);
    expect(elements.filter(element => element.name === 'failure').map(one => one.attributes.type)).toEqual([
      'use-after-unmap',
      'dma-before-flush',
    ]);
    expect(elements.filter(element => element.name === 'system-out')).toHaveLength(1);
    expect(elements.find(element => element.name === 'testsuite')!.attributes).toEqual({
      name: 'viommu sanitizer',
      tests: String(DETECTOR_NAMES.length),
      failures: '2',
      errors: '0',
      skipped: '0',
    });
  });

  it('is well-formed without findings and with hostile names', () => {
    expect(parseXml(reportJunit([])).filter(element => element.name === 'failure')).toEqual([]);
    const text = reportJunit([hostile, { ...hostile, severity: 'note' }], { lost: 3 });
    expect(parseXml(text).some(element => element.name === 'system-err')).toBe(true);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be left
    expect(text).not.toMatch(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/);
  });

  it('escapes what means something in XML, and leaves the rest', () => {
    expect(escapeXml(`<a href="b">'&'</a>`)).toBe('&lt;a href=&quot;b&quot;&gt;&apos;&amp;&apos;&lt;/a&gt;');
    expect(escapeXml('Größe 😀\n')).toBe('Größe 😀\n');
    expect(escapeXml('\ud800x\u0000')).toBe('?x?');
  });
});
