/** The way from a device and an address to a page, entry by entry, and whether the TLB says the same. */
import { useState } from 'preact/hooks';
import type { WalkAnswer, WalkStep } from '../../../machine/inspection.ts';
import type { ViewProps } from '../app.tsx';
import { AgainEverySecond } from '../components/again-every-second.tsx';
import { Bits } from '../components/bits.tsx';
import { Panel } from '../components/panel.tsx';
import { Unavailable, unavailableIn } from '../components/unavailable.tsx';
import { useAnswer } from '../components/use-answer.ts';
import {
  formatBytes,
  formatPermissions,
  formatRequesterId,
  hex,
  hexGroups,
  parseAddress,
  parseRequesterId,
  permissionWords,
} from '../format.ts';
import { navigateTo } from '../navigate.ts';
import { formatRoute } from '../route.ts';
import { formatBits } from '../store/register-decode.ts';
import { readWalk } from '../wire.ts';

export function PageTablesView({ store, args }: ViewProps) {
  const [automatic, setAutomatic] = useState(false);
  const [wrong, setWrong] = useState('');
  const devices = [...store.deviceNames()];
  const requesterId = args.device === undefined ? devices[0]?.[1] : deviceOf(args.device, devices);
  const iova = args.iova === undefined ? undefined : parseAddress(args.iova);
  const question = requesterId === undefined || iova === undefined ? undefined : { requesterId, iova };
  const { value, error, again } = useAnswer(store, 'walk', question, readWalk, automatic);
  const reason = unavailableIn(store, 'tables');
  if (reason !== undefined) return <Unavailable title="There are no page tables to look at." reason={reason} />;
  return (
    <div class="view" data-testid="tables">
      <form
        class="tools"
        onSubmit={event => {
          event.preventDefault();
          const form = new FormData(event.currentTarget);
          const address = parseAddress(form.get('iova') as string);
          const device = form.get('device') as string;
          const isDevice = deviceOf(device, devices) !== undefined;
          setWrong(address === undefined ? 'not an address of up to 64 bits' : isDevice ? '' : 'no such device');
          if (address === undefined || !isDevice) return;
          const next = formatRoute('tables', { device, iova: hex(address) });
          if (next === location.hash) again();
          else navigateTo(next);
        }}
      >
        <label class="field">
          device{' '}
          <input
            class="mono"
            name="device"
            list="walk-devices"
            size={12}
            key={args.device ?? String(requesterId)}
            defaultValue={args.device ?? (requesterId === undefined ? '' : formatRequesterId(requesterId))}
            spellcheck={false}
            data-testid="walk-device"
          />
          <datalist id="walk-devices">
            {devices.map(([name, id]) => (
              <option key={name} value={formatRequesterId(id)}>
                {name}
              </option>
            ))}
          </datalist>
        </label>
        <label class="field">
          IOVA{' '}
          <input
            class="mono"
            name="iova"
            size={22}
            key={args.iova ?? ''}
            defaultValue={args.iova ?? ''}
            placeholder="0xfffff000"
            spellcheck={false}
            data-search=""
            data-testid="walk-iova"
          />
        </label>
        <button type="submit" data-testid="walk">
          Walk
        </button>
        {wrong !== '' && <span class="problem">{wrong}</span>}
        <span class="spring" />
        <AgainEverySecond automatic={automatic} onChange={setAutomatic} />
      </form>
      {error !== '' && (
        <div class="banner problem" data-testid="walk-error">
          {error}
        </div>
      )}
      {value === undefined ? (
        error === '' && (
          <p class="notice">
            Type an address as the device uses it. The walk reads the tables as they are now; it changes nothing, not
            even the TLB.
          </p>
        )
      ) : (
        <div class="scroll">
          <div class="walk-result">
            <Result walk={value} iova={iova!} />
          </div>
          <table data-testid="walk-steps">
            <thead>
              <tr>
                <th>entry</th>
                <th class="right">at</th>
                <th>state</th>
                <th>value</th>
                <th class="wide">fields</th>
              </tr>
            </thead>
            <tbody>
              {value.steps.map(step => (
                <Step key={`${step.what} ${step.address}`} step={step} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}

function deviceOf(text: string, devices: readonly (readonly [string, number])[]): number | undefined {
  return parseRequesterId(text) ?? devices.find(([name]) => name === text.trim())?.[1];
}

function Result({ walk, iova }: { readonly walk: WalkAnswer; readonly iova: bigint }) {
  const { status, address, shift, permissions, domain, cached, agrees } = walk;
  const offset = (entryShift: number) => iova & ((1n << BigInt(entryShift)) - 1n);
  return (
    <Panel title="Result" testId="walk-result">
      <dl class="facts">
        <dt>the tables say</dt>
        <dd data-testid="walk-status">
          <strong>
            {status === 'mapped' ? '● ' : '▲ '}
            {status}
          </strong>
          {address !== undefined && <span class="mono"> → {hex(address)}</span>}
          {permissions !== undefined && `, ${permissionWords(permissions)}`}
          {shift !== undefined && `, in a page of ${formatBytes(2 ** shift)}`}
          {domain !== undefined && `, domain ${domain}`}
        </dd>
        <dt>the TLB says</dt>
        <dd data-testid="walk-tlb">
          {cached === undefined ? (
            'nothing is cached for this address'
          ) : (
            <>
              <span class="mono">
                {hex(((cached.address >> BigInt(cached.shift)) << BigInt(cached.shift)) | offset(cached.shift))}
              </span>
              , {formatPermissions(cached.permissions)}, in a page of {formatBytes(2 ** cached.shift)}
            </>
          )}{' '}
          {!agrees ? (
            <span class="badge tone-vermillion">
              ▲ stale: {cached === undefined ? 'another cache' : 'a cache'} differs from the tables
            </span>
          ) : (
            cached !== undefined && <span class="badge tone-green">● agrees</span>
          )}
        </dd>
      </dl>
    </Panel>
  );
}

function Step({ step }: { readonly step: WalkStep }) {
  const [isOpen, setOpen] = useState(false);
  const { what, address, words, fields, present } = step;
  const value = words.reduce((whole, word, index) => whole | (word << BigInt(64 * index)), 0n);
  const bytes = words.length * 8;
  const toggle = () => setOpen(!isOpen);
  return (
    <>
      <tr
        class={`pick ${isOpen ? 'selected' : ''}`}
        data-testid={`step-${what.replace(/\s+/g, '-')}`}
        tabIndex={0}
        aria-expanded={isOpen}
        onClick={toggle}
        onKeyDown={event => {
          if (event.key !== 'Enter' && event.key !== ' ') return;
          event.preventDefault();
          toggle();
        }}
      >
        <td>{what}</td>
        <td class="mono right">{hex(address)}</td>
        <td>
          <span class={`badge tone-${present ? 'green' : 'vermillion'}`}>
            {present ? '● present' : '▲ not present'}
          </span>
        </td>
        <td class="mono">
          {words.length === 0 ? (
            <span class="problem">no memory there</span>
          ) : (
            [...words].reverse().map((word, index) => (
              // Words have no names but their place.
              <div key={index}>{hexGroups(word, 8)}</div>
            ))
          )}
        </td>
        <td class="register-fields">
          {fields.map(field => (
            <span key={field.name} class={field.value === 0n ? 'zero' : ''}>
              {field.name}={hex(field.value)}
            </span>
          ))}
        </td>
      </tr>
      {isOpen && words.length > 0 && (
        <tr>
          <td colSpan={5} class="wrap">
            <Bits value={value} bytes={bytes} />
            <table>
              <thead>
                <tr>
                  <th>field</th>
                  <th class="right">bits</th>
                  <th class="wide">value</th>
                </tr>
              </thead>
              <tbody>
                {fields.map(field => (
                  <tr key={field.name}>
                    <td class="mono">{field.name}</td>
                    <td class="mono right">{formatBits(field.bits)}</td>
                    <td class="mono">{hex(field.value)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </td>
        </tr>
      )}
    </>
  );
}
