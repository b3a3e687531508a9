import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_TIMEOUT_MS, parseRequest, RequestError } from '../../../src/cli/guest/protocol.ts';

describe('a request', () => {
  it.each([
    ['a command', '{"id":1,"exec":{"command":"id"}}', { id: 1, exec: { command: 'id' } }],
    [
      'with a timeout',
      '{"id":2,"exec":{"command":"id","timeoutMs":5}}',
      { id: 2, exec: { command: 'id', timeoutMs: 5 } },
    ],
    ['a wait', '{"id":3,"wait":{"timeoutMs":0}}', { id: 3, wait: { timeoutMs: 0 } }],
  ])('is %s', (_what, text, request) => {
    expect(parseRequest(text)).toEqual(request);
  });

  it.each([
    ['no JSON', 'id', null, /no JSON/],
    ['no object', '[]', null, /'id'/],
    ['nothing', 'null', null, /'id'/],
    ['without a number', '{"exec":{"command":"id"}}', null, /'id'/],
    ['with half a number', '{"id":1.5,"exec":{"command":"id"}}', null, /'id'/],
    ['about nothing', '{"id":4}', 4, /either 'exec' or 'wait'/],
    ['about two things', '{"id":5,"exec":{"command":"id"},"wait":{"timeoutMs":1}}', 5, /either/],
    ['without a command', '{"id":6,"exec":{}}', 6, /'command'/],
    ['with a command that is no text', '{"id":6,"exec":{"command":["id"]}}', 6, /'command'/],
    ['without a time', '{"id":7,"wait":{}}', 7, /timeoutMs/],
    ['with a time below zero', '{"id":8,"exec":{"command":"id","timeoutMs":-1}}', 8, /timeoutMs/],
    ['with a time that no timer takes', `{"id":9,"wait":{"timeoutMs":${MAX_TIMEOUT_MS + 1}}}`, 9, /timeoutMs/],
  ])('%s is refused, with its number where it has one', (_what, text, id, message) => {
    let caught: unknown;
    try {
      parseRequest(text);
    } catch (error) {
      caught = error;
    }
    expect(caught).toBeInstanceOf(RequestError);
    expect((caught as RequestError).id).toBe(id);
    expect((caught as RequestError).message).toMatch(message);
  });

  it('is refused or understood, whatever comes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), text => {
        try {
          const request = parseRequest(text);
          expect('exec' in request || 'wait' in request).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(RequestError);
        }
      }),
    );
  });
});
