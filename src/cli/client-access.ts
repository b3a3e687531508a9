/** With what a command shows a server who it is, and knows it by: the token, and files that options name. */
import { readFileSync } from 'node:fs';
import { UsageError } from './errors.ts';

export interface TokenFlags {
  readonly token?: string;
  readonly tokenFile?: string;
}

/** What every token is made of: it travels in headers of HTTP. */
const TOKEN = /^[\x21-\x7e]+$/;

/** The token that flags give; a file beats a text. Throws a `UsageError`. */
export function tokenOf({ token, tokenFile }: TokenFlags): string | undefined {
  if (tokenFile !== undefined) return checked(readNamed(tokenFile).toString('utf8').trim(), tokenFile);
  // A variable of the environment that is empty counts as one that is not there.
  return token ? checked(token, 'the token') : undefined;
}

/** The token that the environment gives. Throws a `UsageError`. */
export function tokenOfEnvironment(environment: NodeJS.ProcessEnv = process.env): string | undefined {
  const token = environment.VIOMMU_TOKEN;
  return token ? checked(token, 'VIOMMU_TOKEN') : undefined;
}

/** A file that an option names. Throws a `UsageError`. */
export function readNamed(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

function checked(token: string, where: string): string {
  if (TOKEN.test(token)) return token;
  throw new UsageError(`${where} is empty, or has blanks, line ends or other characters that no token has`);
}
