/** Which view is shown, and with which arguments: the part of the address behind `#`, so that every view can be linked to. */

export const VIEWS = ['overview', 'space', 'rates', 'findings', 'tables', 'registers', 'trace'] as const;
export type ViewName = (typeof VIEWS)[number];

export const VIEW_TITLES: Readonly<Record<ViewName, string>> = {
  overview: 'Overview',
  space: 'Address space',
  rates: 'Rates',
  findings: 'Findings',
  tables: 'Page tables',
  registers: 'Registers',
  trace: 'Trace',
};

export interface Route {
  readonly view: ViewName;
  readonly args: Readonly<Record<string, string>>;
}

/** Of what it does not know it makes the overview. A token in it is no argument of a view. */
export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#\/?/, '');
  const at = text.indexOf('?');
  const name = at < 0 ? text : text.slice(0, at);
  const args: Record<string, string> = {};
  if (at >= 0) {
    for (const [key, value] of new URLSearchParams(text.slice(at + 1))) if (key !== 'token') args[key] = value;
  }
  const view = (VIEWS as readonly string[]).includes(name) ? (name as ViewName) : 'overview';
  return { view, args };
}

export function formatRoute(view: ViewName, args: Readonly<Record<string, string | undefined>> = {}): string {
  const given = Object.entries(args).filter((entry): entry is [string, string] => (entry[1] ?? '') !== '');
  // Colons and commas need no escape behind the #, and addresses are to be read by people.
  const query = new URLSearchParams(given).toString().replaceAll('%3A', ':').replaceAll('%2C', ',');
  return query === '' ? `#/${view}` : `#/${view}?${query}`;
}

/** `?token=...` of the address or of its fragment (`#token=...`, `#/trace?token=...`). */
export function findToken(search: string, hash: string): string | undefined {
  const inHash = hash.includes('?') ? hash.slice(hash.indexOf('?') + 1) : hash.replace(/^#\/?/, '');
  return new URLSearchParams(search).get('token') ?? new URLSearchParams(inHash).get('token') ?? undefined;
}
