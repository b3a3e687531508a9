import { describe, expect, it } from 'vitest';
import type { RemoteEvent } from '../../src/inspector/protocol.ts';
import { StandingSubscription } from '../../src/inspector/standing-subscription.ts';
import type { Finding } from '../../src/trace/sanitizer/finding.ts';

const finding = (id: string) => ({ id }) as Finding;

function subscribe(kinds: readonly string[], operation = 'subscribe') {
  const heard: RemoteEvent[] = [];
  const args = { kinds, context: 'c' };
  const one = new StandingSubscription(50, { operation, args, machine: 'm' }, event => heard.push(event));
  const event = (kind: string, detail: object = {}, dropped = 0) =>
    one.hear({ event: kind, subscription: 1, machine: 'm', source: 's', detail: { ...detail }, dropped });
  return { one, event, heard, brief: () => heard.map(({ event: kind, dropped }) => [kind, dropped]) };
}

describe('a standing subscription', () => {
  it('has one number, and adds up what each connection lost', () => {
    const { one, event, heard, brief } = subscribe(['a']);
    event('a');
    event('a', {}, 2);
    // Sent: 5, of which 3 came; lost at the server: 2 before, 4 since.
    one.goOn({ subscription: 9, sent: 5, dropped: 6 });
    event('a', {}, 6);
    one.goOn({ subscription: 3, sent: 6, dropped: 6 });
    event('a', {}, 7);
    expect(brief()).toEqual([
      ['a', 0],
      ['a', 2],
      ['subscription.dropped', 9],
      ['a', 9],
      ['a', 10],
    ]);
    expect(new Set(heard.map(({ subscription }) => subscription))).toEqual(new Set([50]));
    expect(heard[2]).toMatchObject({ context: 'c', machine: 'm', source: 'remote', detail: {} });
    expect(one.remoteId).toBe(3);
    expect(one.countsOf({ sent: 7, dropped: 7 })).toEqual({ sent: 7, dropped: 10 });
  });

  it('says nothing where nothing was lost', () => {
    const { one, event, brief } = subscribe(['a']);
    event('a');
    event('subscription.dropped', {}, 1);
    one.goOn({ subscription: 9, sent: 1, dropped: 1 });
    expect(brief()).toEqual([
      ['a', 0],
      ['subscription.dropped', 1],
    ]);
  });

  it('is told each finding once, whichever way it comes', () => {
    const { one, event, heard } = subscribe(['find*']);
    one.knows([finding('F1')]);
    event('finding', { finding: finding('F2') });
    for (const id of ['F1', 'F2', 'F3', 'F3']) one.tellFinding(finding(id));
    event('finding', { finding: finding('F3') });
    event('finding', { finding: finding('F4') });
    expect(heard.map(({ detail }) => (detail.finding as Finding).id)).toEqual(['F2', 'F3', 'F4']);
  });

  it('is told no findings that it does not want', () => {
    const { one, heard } = subscribe(['a']);
    one.tellFinding(finding('F1'));
    expect([one.wantsFindings, heard]).toEqual([false, []]);
  });

  it('that was made anew tells that something may be missing, and what there is now', () => {
    const { one, brief, heard } = subscribe([], 'watch');
    one.restart({ machines: ['m1'] });
    expect(brief()).toEqual([
      ['subscription.dropped', 1],
      ['machines', 1],
    ]);
    expect(heard[1]?.detail).toEqual({ machines: ['m1'] });
  });
});
