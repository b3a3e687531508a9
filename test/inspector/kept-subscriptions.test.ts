import { EventEmitter } from 'node:events';
import { expect, it } from 'vitest';
import { KeptSubscriptions } from '../../src/inspector/kept-subscriptions.ts';
import { Subscription } from '../../src/inspector/subscriptions.ts';
import { FakePort } from './support.ts';

it('counts what each subscription loses, until they are given away', () => {
  const fake = Object.assign(new FakePort(), { newFindings: new EventEmitter() });
  const all = [['a'], ['find*', 'b'], ['*']].map((kinds, id) => new Subscription(id, { machine: 'm', kinds }));
  const kept = new KeptSubscriptions(fake.port, all);
  fake.emit('a');
  fake.emit('b');
  fake.emit('c');
  fake.newFindings.emit('finding', {});
  expect(all.map(one => one.dropped)).toEqual([1, 2, 4]);
  expect(kept.give()).toEqual(all);
  fake.emit('a');
  fake.newFindings.emit('finding', {});
  expect(all.map(one => one.dropped)).toEqual([1, 2, 4]);
  expect([fake.events.listenerCount('event'), fake.newFindings.listenerCount('finding')]).toEqual([0, 0]);
});
