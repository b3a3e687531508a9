/** What is mapped in a domain, and what of it is used. */
import { useEffect, useMemo, useRef, useState } from 'preact/hooks';
import { heightOf, type Palette, type Picture, paintMini, paintSpace, positionAt } from '../address-space/paint.ts';
import { mappingAt, neighbour, type SpaceModel, spaceModel } from '../address-space/space-model.ts';
import { around, bounded, pan, type Viewport, zoom } from '../address-space/viewport.ts';
import type { ViewProps } from '../app.tsx';
import { Canvas } from '../components/canvas.tsx';
import { PermissionLegend } from '../components/permission-legend.tsx';
import { SpaceDetail } from '../components/space-detail.tsx';
import { SpaceTable } from '../components/space-table.tsx';
import { Unavailable } from '../components/unavailable.tsx';
import { formatCount, pageAddress, pageEnd, pageOf, parseAddress } from '../format.ts';
import { isTyping } from '../keyboard.ts';
import { replaceArgs } from '../navigate.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { overviewOf } from '../store/overview.ts';
import { colour, colours } from '../store/theme.ts';

/** What one turn of the wheel, one key changes. */
const WHEEL_FACTOR = 1.0015;
const KEY_FACTOR = 0.6;
const KEY_STEP = 0.15;
const DRAG_PIXELS = 4;

export function AddressSpaceView({ store, args }: ViewProps) {
  void store.calmVersion.value;
  const domain = args.domain === undefined ? domainsOf(store)[0] : Number(args.domain);
  const isFolded = args.fold !== 'no';
  const { mappings } = store.mappings.value;
  const touched = domain === undefined ? undefined : store.touches.domain(domain);
  const generation = touched?.generation ?? 0;
  const past = store.isRecording ? store.pastMappings : undefined;
  const pastGeneration = past?.generation;
  // The generations stand for the pages.
  const model = useMemo(
    () => (domain === undefined ? undefined : spaceModel(domain, past?.of(domain) ?? mappings, touched, isFolded)),
    [domain, mappings, touched, generation, past, pastGeneration, isFolded],
  );
  const reason = store.unavailable.value.mappings;
  if (reason !== undefined) return <Unavailable title="The mappings are not known." reason={reason} />;
  if (model === undefined) {
    return <Unavailable title="There is no domain yet." reason="Nothing is attached and nothing is mapped so far." />;
  }
  return <Space key={`${model.domain}`} store={store} args={args} model={model} />;
}

function Space({ store, args, model }: ViewProps & { readonly model: SpaceModel }) {
  void store.calmVersion.value;
  const { folding, domain } = model;
  const [hover, setHover] = useState<number | undefined>(undefined);
  /** In pages, not in positions: these change when something else is folded. */
  const [range, setRange] = useState<{ from: number; to: number } | undefined>(undefined);
  const [wrong, setWrong] = useState(false);
  const drag = useRef<{ x: number; view: Viewport; moved: boolean } | undefined>(undefined);
  const view: Viewport =
    range === undefined
      ? { from: 0, to: folding.length }
      : bounded({ from: folding.position(range.from), to: folding.position(range.to) }, folding.length);
  const setView = (next: Viewport) => {
    const isWhole = next.from <= 0 && next.to >= folding.length;
    setRange(isWhole ? undefined : { from: folding.page(next.from), to: folding.page(next.to) });
  };
  const chosenAddress = args.iova === undefined ? undefined : parseAddress(args.iova);
  const chosen = chosenAddress === undefined ? undefined : pageOf(chosenAddress);
  const choose = (page: number | undefined) =>
    replaceArgs(store, 'space', {
      ...args,
      domain: String(domain),
      iova: page === undefined ? undefined : pageAddress(page),
    });
  const goTo = (page: number, pages = 1) => {
    // The pointer is over something else then, without having moved.
    setHover(undefined);
    const from = folding.position(page);
    setView(around(from, folding.position(page + pages) - from, folding.length));
  };
  // Where the link leads, once; not with every picture.
  useEffect(() => {
    if (chosen !== undefined) goTo(chosen);
  }, []);

  const actions = useRef({ view, setView, chosen, goTo, choose, model });
  actions.current = { view, setView, chosen, goTo, choose, model };
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      if (pressKey(event, actions.current)) event.preventDefault();
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, []);

  void colours.value;
  const palette = useMemo(readPalette, [colours.value]);
  const touched = store.touches.domain(domain);
  const lanes = store.touches.devices.flatMap((requesterId, device) =>
    store.touches.domainOf(requesterId) === domain || ((touched?.devices ?? 0) & (1 << device)) !== 0
      ? [{ name: store.nameOf(requesterId), device }]
      : [],
  );
  const picture = { model, view, touched, lanes, hover, chosen, palette };
  const whole: Picture = { ...picture, width: 0, height: 0 };
  const height = heightOf(lanes.length);
  const at = (event: MouseEvent, canvas: HTMLCanvasElement) =>
    positionAt(view, canvas.clientWidth, event.clientX - canvas.getBoundingClientRect().left);
  const shown = hover ?? chosen;
  return (
    <div class="view" data-testid="space" data-domain={domain}>
      <div class="tools">
        <label class="field">
          domain{' '}
          <select
            class="mono"
            data-testid="domain"
            value={String(domain)}
            onChange={event => replaceArgs(store, 'space', { domain: event.currentTarget.value })}
          >
            {[...new Set([...domainsOf(store), domain])].map(one => (
              <option key={one} value={String(one)}>
                {one}
              </option>
            ))}
          </select>
        </label>
        <form
          class="field"
          onSubmit={event => {
            event.preventDefault();
            const address = parseAddress(new FormData(event.currentTarget).get('address') as string);
            setWrong(address === undefined);
            if (address === undefined) return;
            choose(pageOf(address));
            goTo(pageOf(address));
          }}
        >
          <label class="field">
            address{' '}
            <input
              class="mono"
              name="address"
              size={24}
              placeholder="0xfffff000, then Enter"
              spellcheck={false}
              data-search=""
              data-testid="address"
              aria-invalid={wrong}
            />
          </label>
        </form>
        {wrong && <span class="problem">not an address</span>}
        <button
          type="button"
          title="nearer (+)"
          onClick={() => setView(zoom(view, KEY_FACTOR, (view.from + view.to) / 2, folding.length))}
          data-testid="zoom-in"
        >
          +
        </button>
        <button
          type="button"
          title="farther (−)"
          onClick={() => setView(zoom(view, 1 / KEY_FACTOR, (view.from + view.to) / 2, folding.length))}
          data-testid="zoom-out"
        >
          −
        </button>
        <button type="button" title="everything (Home)" onClick={() => setRange(undefined)} data-testid="zoom-all">
          all
        </button>
        <label class="check">
          <input
            type="checkbox"
            checked={args.fold !== 'no'}
            data-testid="fold"
            onChange={event =>
              replaceArgs(store, 'space', { ...args, fold: event.currentTarget.checked ? undefined : 'no' })
            }
          />
          fold what is empty
        </label>
        <span class="spring" />
        <span class="mono faint" data-testid="visible-range">
          {pageAddress(Math.floor(folding.page(view.from)))} –{' '}
          {pageEnd(Math.max(Math.ceil(folding.page(view.to)) - 1, 0))}
        </span>
      </div>
      <PermissionLegend>
        <span data-testid="touch-count">
          {formatCount(store.touches.transfers)} transfers{' '}
          {store.isRecording ? 'in the recording' : 'seen since the page was opened'}
          {store.touches.beyond > 0 && `, ${formatCount(store.touches.beyond)} pages of them not told apart`}
        </span>
      </PermissionLegend>
      <div class="split">
        <div class="space-main">
          <Canvas
            class="mini"
            testId="space-mini"
            height={34}
            paint={(context, width, size) => paintMini(context, { ...whole, width, height: size })}
            onPointerDown={event => moveMini(event, view, folding.length, setView)}
            onPointerMove={event => {
              if (event.buttons === 1) moveMini(event, view, folding.length, setView);
            }}
          />
          <Canvas
            class="map"
            testId="space-map"
            height={height}
            role="img"
            aria-label={`Address space of domain ${domain}`}
            paint={(context, width, size) => paintSpace(context, { ...whole, width, height: size })}
            onWheel={event => {
              event.preventDefault();
              const canvas = event.currentTarget;
              if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
                setView(pan(view, (event.deltaX || event.deltaY) / canvas.clientWidth, folding.length));
              } else {
                const factor = WHEEL_FACTOR ** (event.deltaMode === 0 ? event.deltaY : event.deltaY * 33);
                setView(zoom(view, factor, at(event, canvas), folding.length));
              }
            }}
            onPointerDown={event => {
              event.currentTarget.setPointerCapture(event.pointerId);
              drag.current = { x: event.clientX, view, moved: false };
            }}
            onPointerMove={event => {
              const canvas = event.currentTarget;
              const begun = drag.current;
              setHover(Math.floor(folding.page(at(event, canvas))));
              if (begun === undefined || (!begun.moved && Math.abs(event.clientX - begun.x) < DRAG_PIXELS)) return;
              begun.moved = true;
              setView(pan(begun.view, (begun.x - event.clientX) / canvas.clientWidth, folding.length));
            }}
            onPointerUp={event => {
              if (drag.current?.moved === false) choose(Math.floor(folding.page(at(event, event.currentTarget))));
              drag.current = undefined;
            }}
            onPointerLeave={() => setHover(undefined)}
            onDblClick={event => {
              const page = Math.floor(folding.page(at(event, event.currentTarget)));
              const mapping = mappingAt(model.mappings, page);
              if (mapping !== undefined) goTo(mapping.page, mapping.pages);
              else setView(zoom(view, 0.25, at(event, event.currentTarget), folding.length));
            }}
          />
          <SpaceTable
            store={store}
            model={model}
            from={folding.page(view.from)}
            to={folding.page(view.to)}
            chosen={chosen}
            onPick={mapping => {
              choose(mapping.page);
              goTo(mapping.page, mapping.pages);
            }}
          />
        </div>
        <SpaceDetail store={store} model={model} page={shown} />
      </div>
    </div>
  );
}

/** Those that there are, and, of a recorded file, those that there were. */
function domainsOf(store: InspectorStore): readonly number[] {
  const present = overviewOf(store).domains.map(one => one.domain);
  if (!store.isRecording) return present;
  const were = [...store.touches.domainNumbers, ...store.pastMappings.domainNumbers].sort((one, other) => one - other);
  return [...new Set([...present, ...were])];
}

interface Actions {
  readonly view: Viewport;
  readonly setView: (view: Viewport) => void;
  readonly chosen: number | undefined;
  readonly goTo: (page: number, pages?: number) => void;
  readonly choose: (page: number | undefined) => void;
  readonly model: SpaceModel;
}

/** False: the key means nothing here. */
function pressKey(event: KeyboardEvent, { view, setView, chosen, goTo, choose, model }: Actions): boolean {
  const { length } = model.folding;
  const middle = chosen === undefined ? (view.from + view.to) / 2 : model.folding.position(chosen + 0.5);
  const anchor = middle >= view.from && middle <= view.to ? middle : (view.from + view.to) / 2;
  const step = event.shiftKey ? 1 : KEY_STEP;
  const jump = (direction: 1 | -1) => {
    const from = chosen ?? Math.floor(model.folding.page(direction === 1 ? view.from : view.to)) - direction;
    const found = neighbour(model.mappings, from, direction);
    if (found === undefined) return;
    choose(found.page);
    goTo(found.page, found.pages);
  };
  const keys: Readonly<Record<string, () => void>> = {
    '+': () => setView(zoom(view, KEY_FACTOR, anchor, length)),
    '=': () => setView(zoom(view, KEY_FACTOR, anchor, length)),
    '-': () => setView(zoom(view, 1 / KEY_FACTOR, anchor, length)),
    ArrowLeft: () => setView(pan(view, -step, length)),
    ArrowRight: () => setView(pan(view, step, length)),
    Home: () => setView({ from: 0, to: length }),
    '[': () => jump(-1),
    ']': () => jump(1),
  };
  const action = keys[event.key];
  action?.();
  return action !== undefined;
}

function moveMini(
  event: PointerEvent & { readonly currentTarget: HTMLCanvasElement },
  view: Viewport,
  length: number,
  setView: (view: Viewport) => void,
): void {
  const { left, width } = event.currentTarget.getBoundingClientRect();
  const at = ((event.clientX - left) / width) * length;
  const half = (view.to - view.from) / 2;
  setView(bounded({ from: at - half, to: at + half }, length));
}

function readPalette(): Palette {
  return {
    paper: colour('--paper'),
    panel: colour('--panel'),
    line: colour('--line'),
    ink: colour('--ink'),
    faint: colour('--faint'),
    read: colour('--green'),
    write: colour('--orange'),
    both: colour('--blue'),
    alarm: colour('--vermillion'),
    accent: colour('--accent'),
  };
}
