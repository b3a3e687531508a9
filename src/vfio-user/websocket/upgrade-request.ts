/** What the handshake of a client asks for. */
import type { IncomingMessage } from 'node:http';
import { isSessionId, type LinkTarget, parseTarget, VFIO_USER_SUBPROTOCOL } from './protocol.ts';
import type { LinkRefusal } from './refusal.ts';

export interface UpgradeRequest {
  readonly target: LinkTarget;
  /** Milliseconds that the client proposes. */
  readonly grace: number | undefined;
  /** The session to go on with; undefined: a new one. */
  readonly resume: ResumeRequest | undefined;
}

export interface ResumeRequest {
  readonly session: string;
  /** Binary frames of it that the client has received. */
  readonly received: number;
  /** The client's dials of this session by number, from 1 on. Undefined: it does not count them. */
  readonly attempt: number | undefined;
}

const BAD = 400;

export function parseUpgrade(request: IncomingMessage): UpgradeRequest | LinkRefusal {
  const { 'sec-websocket-protocol': offered = '' } = request.headers;
  if (!offered.split(',').some(one => one.trim() === VFIO_USER_SUBPROTOCOL)) {
    return { status: BAD, reason: `offer the subprotocol ${VFIO_USER_SUBPROTOCOL}` };
  }
  const [path = '', query = ''] = (request.url ?? '').split('?', 2);
  const target = parseTarget(path);
  if (target === undefined) return { status: 404, reason: 'the path is /vfio-user/MACHINE/FUNCTION' };
  const parameters = new URLSearchParams(query);
  const session = parameters.get('session');
  const received = number(parameters.get('received') ?? '0');
  const grace = number(parameters.get('grace') ?? '0');
  const attempt = number(parameters.get('attempt') ?? '0');
  const isWhole = received !== undefined && grace !== undefined && attempt !== undefined;
  if (!isWhole || (session !== null && !isSessionId(session))) {
    return { status: BAD, reason: 'the query is grace=MILLISECONDS, or session=ID&received=COUNT&attempt=NUMBER' };
  }
  return {
    target,
    grace: parameters.has('grace') ? grace : undefined,
    resume:
      session === null ? undefined : { session, received, attempt: parameters.has('attempt') ? attempt : undefined },
  };
}

/** Digits alone, exactly representable. */
function number(text: string): number | undefined {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}
