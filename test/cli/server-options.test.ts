import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CommandFailure, UsageError } from '../../src/cli/errors.ts';
import { localMachines } from '../../src/cli/machine-access.ts';
import { socketsIn } from '../../src/cli/server-machine.ts';
import { addServerOptions, machineSource, type ServerFlags, serverPlace } from '../../src/cli/server-options.ts';
import { lostMachine, refusedLease, type ServerPlace } from '../../src/cli/server-place.ts';
import { RemoteError } from '../../src/inspector/protocol.ts';
import { ConnectionError } from '../../src/inspector/remote-client.ts';
import { writeRemoteFile } from '../../src/inspector/remote-file.ts';
import { temporaryDirectory } from '../guest/support.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let path: string;
beforeEach(() => {
  directory = temporaryDirectory();
  path = directory.path;
});
afterEach(() => directory.remove());

const URL_PLACE: ServerPlace = {
  kind: 'url',
  url: 'ws://lab:7180',
  token: undefined,
  ca: undefined,
  graceMilliseconds: 4000,
};
const directoryPlace = (): ServerPlace => ({
  kind: 'directory',
  directory: '/run/viommu',
  url: 'ws+unix:/run/viommu/server.sock:/',
  token: undefined,
  ca: undefined,
});

describe('--server', () => {
  it('is not needed', () => {
    expect(serverPlace({})).toBeUndefined();
    expect(serverPlace({ token: 'of-the-environment' })).toBeUndefined();
    expect(serverPlace({ server: '' })).toBeUndefined();
    expect(machineSource({})).toBe(localMachines);
  });

  it('DIR finds address and token in the directory', () => {
    writeRemoteFile(path, { url: 'ws://127.0.0.1:7180', token: 'there' });
    expect(serverPlace({ server: path })).toEqual({
      kind: 'directory',
      directory: path,
      url: 'ws://127.0.0.1:7180',
      token: 'there',
      ca: undefined,
    });
    expect(serverPlace({ server: path, token: 'mine' })).toMatchObject({ token: 'mine' });
    expect(serverPlace({ server: path }, { VIOMMU_TOKEN: 'of-another' })).toMatchObject({ token: 'there' });
  });

  it('URL has the grace of the transport, or what is said', () => {
    expect(serverPlace({ server: 'ws://lab:7180' })).toEqual(URL_PLACE);
    expect(serverPlace({ server: 'wss://lab:7180', grace: 0.5 })).toMatchObject({ graceMilliseconds: 500 });
  });

  it('URL has the token of the environment, unless a flag gives another or it is empty', () => {
    const token = (flags: ServerFlags, VIOMMU_TOKEN: string) =>
      serverPlace({ server: 'ws://lab:7180', ...flags }, { VIOMMU_TOKEN })?.token;
    expect(token({}, 'of-the-environment')).toBe('of-the-environment');
    expect(token({ token: 'mine' }, 'of-the-environment')).toBe('mine');
    expect(token({}, '')).toBeUndefined();
  });

  it('reads the token and the certificates from files', () => {
    const [token, ca] = ['token', 'ca.pem'].map(name => join(path, name)) as [string, string];
    writeFileSync(token, 'secret\n');
    writeFileSync(ca, 'PEM');
    const place = serverPlace({ server: 'wss://lab', tokenFile: token, ca });
    expect(place).toMatchObject({ token: 'secret', ca: Buffer.from('PEM') });
  });

  it.each<[what: string, flags: ServerFlags, message: RegExp]>([
    ['an address of another kind', { server: 'http://lab:7180' }, /ws:\/\/HOST:PORT or wss/],
    ['a file that is not there', { server: 'ws://lab', tokenFile: '/nowhere/token' }, /cannot read \/nowhere\/token/],
    ['options without it', { ca: 'ca.pem' }, /say which, by --server/],
  ])('refuses %s', (_what, flags, message) => {
    expect(() => serverPlace(flags)).toThrow(UsageError);
    expect(() => serverPlace(flags)).toThrow(message);
  });

  it('has no grace for a directory', () => {
    writeRemoteFile(path, { url: 'ws://127.0.0.1:7180' });
    expect(() => serverPlace({ server: path, grace: 3 })).toThrow(/--grace is about ws/);
  });

  it('says how to start a server where there is none', () => {
    expect(() => serverPlace({ server: path })).toThrow(CommandFailure);
    expect(() => serverPlace({ server: path })).toThrow(`start 'viommu serve --dir ${path} --on-demand' first`);
  });

  it('makes QEMU wait for as long as a connection may be away, and not longer in a directory', () => {
    expect(machineSource({ server: 'ws://lab', grace: 30 }).answerMilliseconds).toBe(35_000);
    writeRemoteFile(path, { url: 'ws://127.0.0.1:7180' });
    expect(machineSource({ server: path }).answerMilliseconds).toBeUndefined();
  });

  it.each(['-1', 'soon', '', '3601'])('does not take a grace of %j', grace => {
    const command = addServerOptions(new Command('x'))
      .exitOverride()
      .configureOutput({ writeErr: () => {} });
    expect(() => command.parse(['--grace', grace], { from: 'user' })).toThrow(/number of seconds/);
  });

  it('comes from the environment, too', () => {
    const before = { ...process.env };
    Object.assign(process.env, { VIOMMU_SERVER: 'ws://there', VIOMMU_TOKEN: 'secret' });
    try {
      const flags = addServerOptions(new Command('x')).parse([], { from: 'user' }).opts<ServerFlags>();
      expect(flags).toEqual({ server: 'ws://there' });
      expect(serverPlace(flags)).toMatchObject({ kind: 'url', token: 'secret' });
    } finally {
      process.env = before;
    }
  });
});

describe('the sockets of a leased machine', () => {
  it('are in the directory as this side knows it', () => {
    expect(socketsIn('/mnt/v', { edu0: 'm1/edu0.sock' })).toEqual({ edu0: '/mnt/v/m1/edu0.sock' });
  });

  it.each(['/etc/passwd', '../other/edu0.sock', 'm1/../../edu0.sock'])('are not taken from outside: %s', socket => {
    expect(() => socketsIn('/mnt/v', { edu0: socket })).toThrow(/outside of its directory/);
  });
});

describe('a server that gives no machine', () => {
  const told = (place: ServerPlace, error: unknown) => String((refusedLease(place, error) as Error).message);

  it('has its own words repeated', () => {
    const refusal = new RemoteError('limit', 'all 16 machines of this server are leased');
    expect(refusedLease(URL_PLACE, refusal)).toBeInstanceOf(CommandFailure);
    expect(told(URL_PLACE, refusal)).toBe(
      'the server ws://lab:7180 leases no machine: all 16 machines of this server are leased',
    );
  });

  it.each([
    ['a token', 'ws://lab:7180 refused: 401 a token is needed', /--token/],
    ['a certificate', 'cannot connect: self-signed certificate', /--ca FILE/],
    ['that it runs', 'cannot connect: connect ECONNREFUSED', /Does 'viommu serve --on-demand --listen' run there/],
  ])('is explained: %s', (_what, message, advice) => {
    expect(told(URL_PLACE, new ConnectionError(message))).toMatch(advice);
  });

  it('is explained for a directory', () => {
    expect(told(directoryPlace(), new ConnectionError('cannot connect: ENOENT'))).toMatch(
      /Start it again: viommu serve --dir \/run\/viommu --on-demand/,
    );
    expect(told(directoryPlace(), new ConnectionError('cannot connect: EACCES'))).toMatch(/as the user that runs/);
  });

  it('may be an older one', () => {
    const error = new RemoteError('unknown-operation', "there is no operation 'lease'");
    expect(told(URL_PLACE, error)).toMatch(/Is it started with 'viommu serve --on-demand'/);
  });

  it('is no excuse for mistakes of ours', () => {
    const error = new TypeError('undefined');
    expect(refusedLease(URL_PLACE, error)).toBe(error);
  });
});

describe('a machine that is lost', () => {
  it('is told with the server, the reason and what to do', () => {
    const { message } = lostMachine(directoryPlace(), 'the connection is closed: code 1006');
    expect(message).toMatch(/the server \/run\/viommu: the connection is closed: without a word/);
    expect(message).toMatch(/viommu serve --dir \/run\/viommu --on-demand/);
    expect(lostMachine(URL_PLACE, 'code 1001').message).toMatch(/ws:\/\/lab:7180: code 1001/);
  });
});
