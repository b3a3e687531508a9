import { describe, expect, it } from 'vitest';
import { chooseMirror, configurationFile, parseParagraphs, signedBy, sourcesFile } from '../../qemu/apt.ts';

const target = (fields: Record<string, string>) => new Map(Object.entries({ Component: 'main', ...fields }));

describe('parseParagraphs', () => {
  it('splits at empty lines and at the first colon', () => {
    const [first, second, ...rest] = parseParagraphs('Repo-URI: http://m/debian/\nRelease: trixie\n\nSite: x\n\n');
    expect(Object.fromEntries(first!)).toEqual({ 'Repo-URI': 'http://m/debian/', Release: 'trixie' });
    expect(Object.fromEntries(second!)).toEqual({ Site: 'x' });
    expect(rest).toEqual([]);
  });
});

describe('chooseMirror', () => {
  const debian = target({ Origin: 'Debian', Label: 'Debian', 'Repo-URI': 'http://m/debian/', Release: 'bookworm' });
  const security = target({ Origin: 'Debian', Label: 'Debian-Security', 'Repo-URI': 'http://m/security/' });
  const other = target({ Origin: 'Example', Label: 'Example', 'Repo-URI': 'http://example/' });

  it('takes Debian itself, not its security archive nor somebody else', () => {
    expect(chooseMirror([other, security, debian], [])).toBe(debian);
  });

  it('goes by the name of the release where there are no lists yet', () => {
    const configured = [
      target({ Release: 'bookworm-security', 'Repo-URI': 'http://m/security/' }),
      target({ Release: 'noble', 'Repo-URI': 'http://u/ubuntu/' }),
      target({ Release: 'bookworm', 'Repo-URI': 'http://m/debian/' }),
    ];
    expect(chooseMirror([], configured)).toBe(configured[2]);
  });

  it('takes no CD-ROM and no other component', () => {
    const disc = target({ Release: 'bookworm', 'Repo-URI': 'cdrom:[x]/' });
    const contrib = target({ Release: 'bookworm', 'Repo-URI': 'http://m/', Component: 'contrib' });
    expect(chooseMirror([], [disc, contrib])).toBeUndefined();
  });
});

describe('signedBy', () => {
  it('finds keyring files in both forms of sources', () => {
    expect(signedBy('Types: deb\nSigned-By: /usr/share/keyrings/a.gpg\n')).toEqual(['/usr/share/keyrings/a.gpg']);
    expect(signedBy('deb [arch=amd64 signed-by=/k/b.asc] http://m trixie main')).toEqual(['/k/b.asc']);
  });

  it('leaves out keys inside the file, fingerprints and comments', () => {
    expect(signedBy('Signed-By:\n -----BEGIN PGP')).toEqual([]);
    expect(signedBy('Signed-By: 0123ABCD')).toEqual([]);
    expect(signedBy('# Signed-By: /k/c.gpg')).toEqual([]);
  });
});

describe('the private apt', () => {
  it('always checks signatures, and by the keyring given', () => {
    const sources = sourcesFile({ uri: 'http://m/debian/', keyrings: [] }, '/k/a.gpg');
    expect(sources).toBe(
      'Types: deb\nURIs: http://m/debian/\nSuites: trixie trixie-backports\nComponents: main\n' +
        'Architectures: amd64\nTargets: Packages\nSigned-By: /k/a.gpg\n',
    );
    expect(sources).not.toMatch(/trusted/i);
    const configuration = configurationFile('/c/apt', false);
    expect(configuration).toContain('Acquire::AllowInsecureRepositories "false";');
    expect(configuration).toContain('APT::Get::AllowUnauthenticated "false";');
  });

  it('keeps all of its state below its directory', () => {
    const lines = configurationFile('/c/apt', false).split('\n');
    const paths = lines.filter(line => line.startsWith('Dir::')).map(line => /"(.*)"/.exec(line)![1]!);
    expect(paths.length).toBeGreaterThan(5);
    for (const path of paths) expect(path).toMatch(/^\/c\/apt\/|^\/dev\/null$/);
  });

  it('gives up the download user only where it would run as root', () => {
    expect(configurationFile('/c', true)).toContain('APT::Sandbox::User "root";');
    expect(configurationFile('/c', false)).not.toContain('Sandbox');
  });

  it('refuses a directory that it cannot write into its configuration', () => {
    expect(() => configurationFile('/c"x', false)).toThrow(/cannot be written/);
  });
});
