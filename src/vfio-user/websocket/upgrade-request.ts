/** What the handshake of a client asks for. */
import type { IncomingMessage } from 'node:http';
import { isSessionId, type LinkTarget, parseTarget, VFIO_USER_SUBPROTOCOL } from './protocol.ts';
import type { LinkRefusal } from './refusal.ts';

export interface UpgradeRequest {
  readonly target: LinkTarget;
  /** Milliseconds that the client proposes. */
  readonly grace: number | undefined;
  /** The session to go on with, and how many binary frames of it the client has received; undefined: a new one. */
  readonly resume: { readonly session: string; readonly received: number } | undefined;
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
  if (received === undefined || grace === undefined || (session !== null && !isSessionId(session))) {
    return { status: BAD, reason: 'the query is grace=MILLISECONDS, or session=ID&received=COUNT' };
  }
  return {
    target,
    grace: parameters.has('grace') ? grace : undefined,
    resume: session === null ? undefined : { session, received },
  };
}

/** Digits alone, exactly representable. */
function number(text: string): number | undefined {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}
