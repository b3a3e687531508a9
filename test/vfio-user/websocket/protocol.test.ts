import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MAX_REASON_CHARACTERS } from '../../../src/vfio-user/websocket/limits.ts';
import { clip, isFinal, parseControl, parseTarget, vfioUserUrl } from '../../../src/vfio-user/websocket/protocol.ts';

const session = '0123456789abcdef0123456789abcdef';
const welcome = { type: 'welcome', session, grace: 4000, received: 3, window: { bytes: 100, frames: 10 } };

describe('control messages', () => {
  test.each([
    { type: 'ack', received: 0 },
    { type: 'ack', received: Number.MAX_SAFE_INTEGER },
    { type: 'bye', reason: 'enough' },
    welcome,
  ])('%o is one', value => {
    expect(parseControl(JSON.stringify(value))).toEqual(value);
  });

  test('may have more fields than are known', () => {
    expect(parseControl('{"type":"ack","received":1,"later":{}}')).toEqual({ type: 'ack', received: 1 });
  });

  test('a bye may be without a reason', () => {
    expect(parseControl('{"type":"bye"}')).toEqual({ type: 'bye', reason: '' });
  });

  test.each([
    '',
    '{',
    'null',
    '[]',
    '"ack"',
    '{"type":"ack"}',
    '{"type":"ack","received":-1}',
    '{"type":"ack","received":1.5}',
    '{"type":"ack","received":"1"}',
    '{"type":"ack","received":1e300}',
    '{"type":"hello"}',
    JSON.stringify({ ...welcome, session: 'short' }),
    JSON.stringify({ ...welcome, grace: -1 }),
    JSON.stringify({ ...welcome, received: null }),
    JSON.stringify({ ...welcome, window: null }),
    JSON.stringify({ ...welcome, window: { bytes: 1 } }),
    `{"type":"ack","received":1}${' '.repeat(1000)}`,
  ])('%s is none', text => {
    expect(parseControl(text)).toBeUndefined();
  });

  test('no text makes the parser throw', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), text => void parseControl(text)));
  });
});

describe('reasons', () => {
  test('always fit a close frame, and stay in one line', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 300 }), text => {
        const clipped = clip(text);
        expect(Buffer.byteLength(clipped)).toBeLessThanOrEqual(MAX_REASON_CHARACTERS);
        expect(/[\r\n]/.test(clipped)).toBe(false);
      }),
    );
  });

  test('stay as they are where they fit', () => {
    expect(clip('the server stops')).toBe('the server stops');
  });
});

describe('paths', () => {
  test('name a machine and a function', () => {
    expect(parseTarget('/vfio-user/m1/edu0')).toEqual({ machine: 'm1', name: 'edu0' });
    expect(parseTarget('/vfio-user/a%2Fb/%C3%A9')).toEqual({ machine: 'a/b', name: 'é' });
  });

  test.each([
    '',
    '/',
    '/vfio-user',
    '/vfio-user/',
    '/vfio-user/m1',
    '/vfio-user/m1/',
    '/vfio-user//edu0',
    '/vfio-user/m1/edu0/',
    '/vfio-user/m1/edu0/x',
    '/vfio-user/%ff/edu0',
    `/vfio-user/m1/${'x'.repeat(129)}`,
    '/other/m1/edu0',
  ])('%s is none', path => {
    expect(parseTarget(path)).toBeUndefined();
  });

  test.each([
    ['ws://127.0.0.1:7180', 'ws://127.0.0.1:7180/vfio-user/m1/edu0'],
    ['ws://127.0.0.1:7180/', 'ws://127.0.0.1:7180/vfio-user/m1/edu0'],
    ['wss://lab.example/viommu/?x=1#y', 'wss://lab.example/viommu/vfio-user/m1/edu0'],
    ['ws+unix:/run/viommu/server.sock:/', 'ws+unix:/run/viommu/server.sock:/vfio-user/m1/edu0'],
    ['ws+unix:/run/viommu/server.sock', 'ws+unix:/run/viommu/server.sock:/vfio-user/m1/edu0'],
  ])('%s has %s', (server, url) => {
    expect(vfioUserUrl(server, { machine: 'm1', name: 'edu0' })).toBe(url);
  });

  test.each(['.', '..'])('refuse the name %s, which would be a step in the path', part => {
    expect(() => vfioUserUrl('ws://h', { machine: part, name: 'edu0' })).toThrow('cannot name a machine');
    expect(() => vfioUserUrl('ws://h', { machine: 'm1', name: part })).toThrow('cannot name a machine');
  });

  test('refuse a user and a password', () => {
    expect(() => vfioUserUrl('ws://user:secret@h', { machine: 'm1', name: 'edu0' })).toThrow(/^(?!.*secret).*no user/);
  });

  test('survive every name', () => {
    const name = fc.string({ minLength: 1, maxLength: 40 }).filter(one => one !== '.' && one !== '..');
    fc.assert(
      fc.property(name, name, (machine, one) => {
        const { pathname } = new URL(vfioUserUrl('ws://h', { machine, name: one }));
        expect(parseTarget(pathname)).toEqual({ machine, name: one });
      }),
    );
  });
});

test('a close on purpose is final, a lost connection is not', () => {
  expect([1000, 1001, 1002, 1003, 1007, 1008, 1009].map(isFinal)).not.toContain(false);
  expect([1005, 1006, 1011, 1012, 1013, 4000].map(isFinal)).not.toContain(true);
});
