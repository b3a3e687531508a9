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

const token = findToken(location.search, location.hash);
const { protocol, host, pathname } = location;
const store = new InspectorStore({
  url: `${protocol === 'https:' ? 'wss' : 'ws'}://${host}${pathname}`,
  token,
  open: (url, protocols) => new WebSocket(url, protocols) as unknown as Socket,
  machine: new URLSearchParams(location.search).get('machine') ?? undefined,
});

startTheme();
store.show(parseRoute(location.hash));
addEventListener('hashchange', () => store.show(parseRoute(location.hash)));
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
