/** Starts the page: theme, route, connection; and lays the store's plain state open for tests. */
import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/base.css';
import './styles/layout.css';
import './styles/views.css';
import { App } from './app.tsx';
import type { Socket } from './connection.ts';
import { startKeyboard } from './keyboard.ts';
import { findToken, parseRoute } from './route.ts';
import { InspectorStore } from './store/inspector-store.ts';
import { plainState } from './store/plain-state.ts';
import { startTheme } from './store/theme.ts';

/** For this tab and this server: so that a reload, and an address without the token, find it again. */
const TOKEN_KEY = 'viommu.token';
const given = findToken(location.search, location.hash);
if (given !== undefined) sessionStorage.setItem(TOKEN_KEY, given);
const token = given ?? sessionStorage.getItem(TOKEN_KEY) ?? undefined;
const { protocol, host, pathname } = location;
const store = new InspectorStore({
  url: `${protocol === 'https:' ? 'wss' : 'ws'}://${host}${pathname}`,
  token,
  open: (url, protocols) => new WebSocket(url, protocols) as unknown as Socket,
  machine: new URLSearchParams(location.search).get('machine') ?? undefined,
});

startTheme();
store.show(parseRoute(location.hash));
addEventListener('hashchange', () => {
  const fresh = findToken('', location.hash);
  if (fresh === undefined || fresh === token) {
    store.show(parseRoute(location.hash));
    return;
  }
  sessionStorage.setItem(TOKEN_KEY, fresh);
  location.reload();
});
document.addEventListener('visibilitychange', () => store.setVisible(document.visibilityState === 'visible'));
store.setVisible(document.visibilityState === 'visible');
startKeyboard(store);
store.start();

Object.defineProperty(window, 'viommu', {
  value: {
    /** Plain data, as it is now. */
    get state() {
      return plainState(store);
    },
    store,
  },
});

render(<App store={store} />, document.getElementById('app')!);
