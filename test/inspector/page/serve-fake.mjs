/**
 * `node test/inspector/page/serve-fake.mjs PORT [RATE]`, or `PORT recording [TRANSFERS]`: serves the built page with a machine behind it
 * that is not there, until it is ended.
 */
import { fileURLToPath } from 'node:url';
import { createServer } from 'vite';

const here = path => fileURLToPath(new URL(path, import.meta.url));
const [port = '0', second = '2000', transfers = '300000'] = process.argv.slice(2);
const vite = await createServer({
  root: here('.'),
  configFile: false,
  appType: 'custom',
  logLevel: 'error',
  server: { middlewareMode: true, ws: false, hmr: false, watch: null },
  optimizeDeps: { noDiscovery: true },
});
const { FakeServer } = await vite.ssrLoadModule(here('./fake-server.ts'));
const load = second === 'recording' ? { recording: Number(transfers) } : { rate: Number(second) };
const server = await FakeServer.start({ port: Number(port), page: here('../../../dist/inspector-page'), ...load });
console.log(`http://127.0.0.1:${server.port}/`);
