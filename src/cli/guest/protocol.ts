/**
 * What `viommu guest ...` and a guest that runs headless say to each other over DIR/agent.sock: JSON objects, one a line. Each request
 * has a number, and each answer to it too; a client that disconnects gives up what it asked for.
 */

/** Requests of one client that are not answered yet. */
export const MAX_REQUESTS = 16;
/** Clients at once. */
export const MAX_CLIENTS = 64;
/** Of what waits for a client that does not read: then its command is given up. Bytes. */
export const MAX_UNREAD_BYTES = 16 * 1024 * 1024;
/** The longest wait that a timer takes, in milliseconds. */
export const MAX_TIMEOUT_MS = 2 ** 31 - 1;

export interface ExecRequest {
  readonly id: number;
  readonly exec: {
    /** One line for the guest's `sh -c`. */
    readonly command: string;
    /** From when the command's turn comes, a wait for one that was given up included. Missing: none. */
    readonly timeoutMs?: number | undefined;
    /** Its standard input, as `GuestAgent.run` takes it. Missing: nothing. */
    readonly input?: string | undefined;
  };
}

export interface WaitRequest {
  readonly id: number;
  /** Until the guest's agent answers. */
  readonly wait: { readonly timeoutMs: number };
}

export type GuestRequest = ExecRequest | WaitRequest;

export const FailureReason = {
  /** The request is not one, or asks for what cannot be. */
  refused: 'refused',
  /** The time was over. */
  timeout: 'timeout',
  /** The guest started anew while the command ran. */
  restarted: 'restarted',
  /** The guest has ended, or does not answer. */
  gone: 'gone',
  failed: 'failed',
} as const;
export type FailureReason = (typeof FailureReason)[keyof typeof FailureReason];

export type GuestAnswer =
  /** One line of the command's output. */
  | { readonly id: number; readonly line: string }
  /** The command has ended, with this exit status: 0 to 255. */
  | { readonly id: number; readonly status: number }
  | { readonly id: number; readonly ready: true }
  /** `id`: null where the request had none. */
  | { readonly id: number | null; readonly error: string; readonly reason: FailureReason };

/** What is wrong with a request; `id`, where it could be read. */
export class RequestError extends Error {
  override readonly name = 'RequestError';

  constructor(
    message: string,
    readonly id: number | null,
  ) {
    super(message);
  }
}

/** Throws a RequestError. */
export function parseRequest(text: string): GuestRequest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RequestError(`this is no JSON: ${(error as Error).message}`, null);
  }
  const { id: given, exec, wait } = asObject(value);
  if (!Number.isSafeInteger(given)) throw new RequestError("a request needs a whole number 'id'", null);
  const id = given as number;
  if (exec !== undefined && wait === undefined) {
    const { command, timeoutMs, input } = asObject(exec);
    if (typeof command !== 'string') throw new RequestError("'exec' needs a text 'command'", id);
    if (input !== undefined && typeof input !== 'string') throw new RequestError("'input' is a text of base64", id);
    const limit = timeoutMs === undefined ? undefined : milliseconds(timeoutMs, id);
    return { id, exec: { command, timeoutMs: limit, input } };
  }
  if (wait !== undefined && exec === undefined) {
    return { id, wait: { timeoutMs: milliseconds(asObject(wait).timeoutMs, id) } };
  }
  throw new RequestError("a request has either 'exec' or 'wait'", id);
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

function milliseconds(value: unknown, id: number): number {
  if (typeof value === 'number' && value >= 0 && value <= MAX_TIMEOUT_MS) return value;
  throw new RequestError(`'timeoutMs' is a number of milliseconds from 0 to ${MAX_TIMEOUT_MS}`, id);
}
