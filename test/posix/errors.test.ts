import { openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { SystemError, systemErrorFrom } from '../../src/posix/errors.ts';

describe('SystemError', () => {
  it('names the call, the number and the code', () => {
    const error = new SystemError('sendmsg', 32);
    expect(error).toBeInstanceOf(Error);
    expect(error.call).toBe('sendmsg');
    expect(error.errno).toBe(32);
    expect(error.code).toBe('EPIPE');
    expect(error.message).toBe('sendmsg: EPIPE');
  });

  it('says what it was about', () => {
    expect(new SystemError('bind', 13, '/run/a.sock').message).toBe('bind /run/a.sock: EACCES');
  });

  it('has a code for an error number that nobody knows', () => {
    expect(new SystemError('poll', 9999).code).toContain('9999');
  });
});

describe('systemErrorFrom', () => {
  it('turns what node:fs throws into a SystemError', () => {
    let thrown: unknown;
    try {
      openSync('/nowhere/at/all', 'r');
    } catch (error) {
      thrown = error;
    }
    const error = systemErrorFrom('open', thrown);
    expect(error.code).toBe('ENOENT');
    expect(error.errno).toBe(2);
  });

  it('throws on what is no system error', () => {
    const bug = new TypeError('a bug');
    expect(() => systemErrorFrom('open', bug)).toThrow(bug);
  });
});
