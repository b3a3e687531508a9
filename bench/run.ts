/** `npm run bench`: every measured claim, each beside its floor in the same run. Names choose a part: `npm run bench -- dma`. */
import { benchBridge } from './bridge.ts';
import { benchDma, benchWatchedDma } from './dma.ts';
import { benchFunctions } from './functions.ts';
import { benchInspector } from './inspector.ts';
import { benchMap } from './map.ts';
import { benchRecording } from './recording.ts';
import { benchRegions } from './regions.ts';
import { type BenchResult, formatResult } from './result.ts';
import { benchRoundTrip } from './round-trip.ts';
import { benchTrace } from './trace.ts';
import { benchWalk } from './walk.ts';

const PARTS: Readonly<Record<string, () => BenchResult[] | Promise<BenchResult[]>>> = {
  walk: benchWalk,
  map: benchMap,
  dma: () => [...benchDma(), ...benchWatchedDma()],
  'round-trip': benchRoundTrip,
  functions: benchFunctions,
  regions: benchRegions,
  trace: benchTrace,
  recording: benchRecording,
  inspector: benchInspector,
  bridge: benchBridge,
};

const wanted = process.argv.slice(2).filter(word => !word.startsWith('-'));
const unknown = wanted.filter(name => PARTS[name] === undefined);
if (unknown.length > 0) {
  console.error(`no benchmark is called ${unknown.join(', ')}: there are ${Object.keys(PARTS).join(', ')}`);
  process.exit(2);
}

const json = process.argv.includes('--json');
const all: BenchResult[] = [];
for (const [name, run] of Object.entries(PARTS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  for (const one of await run()) {
    all.push(one);
    if (!json) console.log(formatResult(one));
  }
}
if (json) console.log(JSON.stringify(all, undefined, 2));
