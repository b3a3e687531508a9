import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tokenOf, tokenOfEnvironment } from '../../src/cli/client-access.ts';
import { UsageError } from '../../src/cli/errors.ts';
import { addressFrom } from '../../src/cli/remote-access.ts';
import { serverPlace } from '../../src/cli/server-options.ts';
import { temporaryDirectory } from '../qemu/support.ts';

const directory = temporaryDirectory();
const tokenFile = join(directory, 'token');

describe('the token that flags give', () => {
  it('is none where none is given, or an empty variable', () => {
    expect(tokenOf({})).toBeUndefined();
    expect(tokenOf({ token: '' })).toBeUndefined();
    expect(tokenOfEnvironment({ VIOMMU_TOKEN: '' })).toBeUndefined();
    expect(tokenOfEnvironment({})).toBeUndefined();
  });

  it('is the text, or what the file says without the end of its line', () => {
    writeFileSync(tokenFile, 'secret\n');
    expect(tokenOf({ token: 'plain' })).toBe('plain');
    expect(tokenOf({ token: 'plain', tokenFile })).toBe('secret');
    expect(tokenOfEnvironment({ VIOMMU_TOKEN: 'there' })).toBe('there');
  });

  it('is refused where its file is empty or is not there', () => {
    writeFileSync(tokenFile, '\n');
    expect(() => tokenOf({ tokenFile })).toThrow(`${tokenFile} is empty, or has blanks`);
    expect(() => tokenOf({ tokenFile: '/nowhere/token' })).toThrow(/cannot read \/nowhere\/token/);
  });

  it.each([
    ['a blank', 'two words'],
    ['a line end', 'two\nlines'],
    ['a letter beyond ASCII', 'gehëim'],
    ['a control character', 'a\x7f'],
  ])('is refused with %s, by whichever command', (_what, token) => {
    writeFileSync(tokenFile, token);
    const refused = [
      () => tokenOf({ token }),
      () => tokenOf({ tokenFile }),
      () => tokenOfEnvironment({ VIOMMU_TOKEN: token }),
      () => addressFrom({ connect: 'ws://lab:7180', tokenFile }),
      () => serverPlace({ server: 'ws://lab:7180', token }),
      () => serverPlace({ server: 'ws://lab:7180', tokenFile }),
      () => serverPlace({ server: 'ws://lab:7180' }, { VIOMMU_TOKEN: token }),
    ];
    for (const one of refused) {
      expect(one).toThrow(UsageError);
      expect(one).toThrow(/has blanks, line ends or other characters that no token has/);
    }
  });
});
