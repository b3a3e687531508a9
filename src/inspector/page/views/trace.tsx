/** Every record, filtered, following what comes or standing still. */
import type { ComponentChildren } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { EventClassName } from '../../../trace/event-kinds.ts';
import type { ViewProps } from '../app.tsx';
import { CLASS_MARKS } from '../components/marks.tsx';
import { RowList } from '../components/row-list.tsx';
import { TraceDetail } from '../components/trace-detail.tsx';
import { TraceRowLine } from '../components/trace-row-line.tsx';
import { formatCount } from '../format.ts';
import { isTyping } from '../keyboard.ts';
import { replaceArgs } from '../navigate.ts';
import type { InspectorStore } from '../store/inspector-store.ts';
import { CLASS_NAMES, filterFromArgs, filterToArgs, kindsOfClasses, type TraceFilter } from '../store/trace-filter.ts';
import { TraceModel } from '../store/trace-model.ts';
import { traceRow } from '../store/trace-row.ts';

export function TraceView({ store, args }: ViewProps) {
  const model = useMemo(() => new TraceModel(store.records), [store]);
  const filter = filterFromArgs(args);
  const filterKey = JSON.stringify(filterToArgs(filter));
  const [selected, setSelected] = useState<number | undefined>(undefined);
  const [reveal, setReveal] = useState<{ row: number; serial: number } | undefined>(undefined);
  const names = store.deviceNames();
  const namesKey = [...names.keys()].join();
  // The keys stand for what the filter is made of.
  useEffect(() => model.setFilter(filter, names), [model, filterKey, namesKey]);
  const version = store.recordsVersion.value;
  // The version stands for the records.
  useEffect(() => model.advance(), [model, version]);
  useEffect(() => () => model.stop(), [model]);
  void model.version.value;
  const follow = model.follow.value;
  const setFollow = (next: boolean) => {
    model.follow.value = next;
  };

  const { at } = args;
  // Once for each time that is asked for.
  useEffect(() => {
    if (at === undefined) return;
    const number = store.records.atTime(Number(at));
    setFollow(false);
    setSelected(number);
    setReveal({ row: model.search.results.indexFrom(number), serial: Date.now() });
  }, [at]);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'f' || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      model.follow.value = !model.follow.value;
    };
    addEventListener('keydown', onKey);
    return () => removeEventListener('keydown', onKey);
  }, [model]);

  const { results } = model.search;
  const selectedRow = selected === undefined ? undefined : results.indexFrom(selected);
  const change = (part: Partial<TraceFilter>) => replaceArgs(store, 'trace', filterToArgs({ ...filter, ...part }));
  return (
    <div class="view" data-testid="trace">
      <Tools store={store} filter={filter} change={change} model={model} setFollow={setFollow} />
      <div class="split">
        <div class="rows">
          <div class="row head">
            <span class="time">seconds</span>
            <span>source</span>
            <span>kind</span>
            <span>what</span>
          </div>
          <RowList
            rows={results.length}
            follow={follow}
            onFollow={setFollow}
            selected={selectedRow}
            onSelect={row => setSelected(model.numberAt(row))}
            shifted={model.shifted}
            reveal={reveal}
            testId="trace-rows"
            label="Records"
          >
            {row => {
              const number = model.numberAt(row)!;
              const shown = traceRow(store.records, number);
              return (
                shown && (
                  <TraceRowLine
                    key={number}
                    row={shown}
                    selected={number === selected}
                    onPick={() => {
                      setSelected(number === selected ? undefined : number);
                      setFollow(false);
                    }}
                  />
                )
              );
            }}
          </RowList>
        </div>
        {selected !== undefined && (
          <TraceDetail store={store} number={selected} onClose={() => setSelected(undefined)} />
        )}
      </div>
      <Status store={store} model={model} />
    </div>
  );
}

interface ToolsProps {
  readonly store: InspectorStore;
  readonly filter: TraceFilter;
  readonly change: (part: Partial<TraceFilter>) => void;
  readonly model: TraceModel;
  readonly setFollow: (follow: boolean) => void;
}

function Tools({ store, filter, change, model, setFollow }: ToolsProps) {
  const toggle = (name: EventClassName, only: boolean) => {
    const has = filter.classes.includes(name);
    const next = only ? [name] : has ? filter.classes.filter(one => one !== name) : [...filter.classes, name];
    change({ classes: CLASS_NAMES.filter(one => next.includes(one)) });
  };
  const names = [...store.deviceNames().keys()];
  return (
    <>
      <div class="tools">
        <div class="chips" data-testid="classes">
          {CLASS_NAMES.map(name => (
            <button
              key={name}
              type="button"
              aria-pressed={filter.classes.includes(name)}
              title={`${name}: click to switch, with Shift this one alone`}
              data-testid={`class-${name}`}
              onClick={event => toggle(name, event.shiftKey)}
            >
              <span class={`tone-${CLASS_MARKS[name].tone}`}>{CLASS_MARKS[name].sign}</span> {name}
            </button>
          ))}
          <button type="button" data-testid="class-all" onClick={() => change({ classes: CLASS_NAMES })}>
            all
          </button>
        </div>
        <span class="spring" />
        <button
          type="button"
          aria-pressed={model.follow.value}
          title="f"
          data-testid="follow"
          onClick={() => setFollow(!model.follow.value)}
        >
          {model.follow.value ? '↓ following' : '↓ follow'}
        </button>
        <button
          type="button"
          data-testid="clear"
          onClick={() => {
            store.records.clear();
            model.advance();
          }}
        >
          Clear
        </button>
      </div>
      <div class="tools filters">
        <Field label="kind">
          <select
            class="mono"
            data-testid="filter-kind"
            value={filter.kind}
            onChange={event => change({ kind: event.currentTarget.value })}
          >
            <option value="">any</option>
            {kindsOfClasses(filter.classes).map(kind => (
              <option key={kind} value={kind}>
                {kind}
              </option>
            ))}
          </select>
        </Field>
        <Field label="device">
          <Text
            name="device"
            value={filter.device}
            size={14}
            hint="edu0, 01:00.0"
            list="device-names"
            change={change}
          />
          <datalist id="device-names">
            {names.map(name => (
              <option key={name} value={name} />
            ))}
          </datalist>
        </Field>
        <Field label="domain">
          <Text name="domain" value={filter.domain} size={4} hint="any" change={change} />
        </Field>
        <Field label="IOVA">
          <Text name="iova" value={filter.iova} size={26} hint="0x1000-0x1fff or 0x1000+64" change={change} />
        </Field>
        <Field label="text">
          <Text name="text" value={filter.text} size={22} hint="anywhere in the line" search change={change} />
        </Field>
        {model.error.value !== '' && (
          <span class="problem" data-testid="filter-error">
            {model.error.value}
          </span>
        )}
      </div>
    </>
  );
}

function Field({ label, children }: { readonly label: string; readonly children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noLabelWithoutControl: the control is among the children.
    <label class="field">
      {label} {children}
    </label>
  );
}

interface TextProps {
  readonly name: 'device' | 'domain' | 'iova' | 'text';
  readonly value: string;
  readonly size: number;
  readonly hint: string;
  readonly list?: string;
  readonly search?: boolean;
  readonly change: (part: Partial<TraceFilter>) => void;
}

function Text({ name, value, size, hint, list, search = false, change }: TextProps) {
  return (
    <input
      class="mono"
      type="text"
      value={value}
      size={size}
      placeholder={hint}
      spellcheck={false}
      data-testid={`filter-${name}`}
      {...(list === undefined ? {} : { list })}
      {...(search ? { 'data-search': '' } : {})}
      onInput={event => change({ [name]: event.currentTarget.value })}
    />
  );
}

function Status({ store, model }: { readonly store: InspectorStore; readonly model: TraceModel }) {
  const { records, recorder } = store;
  void store.recorderVersion.value;
  void model.version.value;
  const { progress, results } = model.search;
  return (
    <div class="status" data-testid="trace-status">
      <span>
        <b data-testid="shown-count">{formatCount(results.length)}</b> of{' '}
        <b data-testid="record-count">{formatCount(records.count)}</b> records
      </span>
      {progress < 1 && <span data-testid="progress">searched {Math.floor(progress * 100)} %</span>}
      {records.first > 0 && <span>{formatCount(records.first)} older ones are gone</span>}
      {recorder.dropped > 0 && (
        <span class="problem" data-testid="dropped">
          {formatCount(recorder.dropped)} batches were lost: this page was too slow
        </span>
      )}
      {recorder.error !== '' && <span class="problem">{recorder.error}</span>}
      {recorder.error === '' && recorder.classes === 0 && <span>nothing is recorded at the moment</span>}
    </div>
  );
}
