import { describe, expect, it } from 'vitest';
import { Subscription } from '../../src/inspector/subscriptions.ts';

const event = { kind: 'fault.recorded', source: 'iommu', detail: { address: 1n } };
const make = (kinds: readonly string[], context?: unknown) => new Subscription(7, { machine: 'm', kinds, context });

describe('a subscription', () => {
  it.each([
    [['fault.recorded'], true],
    [['fault.*'], true],
    [['*'], true],
    [['client.closed', 'fault*'], true],
    [['fault'], false],
    [['fault.recorded.more'], false],
    [['client.*'], false],
    [[], false],
  ])('to %o: %s', (kinds, wanted) => {
    expect(make(kinds).wants('m', event.kind)).toBe(wanted);
  });

  it('is to one machine', () => {
    expect(make(['*']).wants('other', event.kind)).toBe(false);
  });

  it('makes messages with its number and context', () => {
    expect(make(['*'], 'mine').eventFor(event)).toEqual({
      event: 'fault.recorded',
      subscription: 7,
      context: 'mine',
      machine: 'm',
      source: 'iommu',
      detail: { address: 1n },
      dropped: 0,
    });
    expect(make(['*']).eventFor(event)).not.toHaveProperty('context');
  });

  it('tells of losses once', () => {
    const subscription = make(['*']);
    expect(subscription.takeLoss()).toBeUndefined();
    subscription.dropped += 2;
    expect(subscription.takeLoss()).toMatchObject({ event: 'subscription.dropped', subscription: 7, dropped: 2 });
    expect(subscription.takeLoss()).toBeUndefined();
    subscription.dropped++;
    expect(subscription.eventFor(event).dropped).toBe(3);
    expect(subscription.takeLoss()).toBeUndefined();
    expect(subscription.counts()).toEqual({ sent: 1, dropped: 3 });
  });
});
