/** One block of registers. What changed since the last look is marked by a bar, a ground and the value before. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { RegisterBlockDescription } from '../../../machine/inspection.ts';
import { hex, hexGroups } from '../format.ts';
import { type DecodedRegister, decodeBlock, formatBits } from '../store/register-decode.ts';
import { Bits } from './bits.tsx';

interface Props {
  readonly block: RegisterBlockDescription;
  readonly bytes: Uint8Array;
  readonly before: Uint8Array | undefined;
  /** Offset of a register that a link leads to. */
  readonly marked: number | undefined;
  readonly onRefresh: () => void;
}

const CONFIGURATION_SPACE = 7;

export function RegisterTable({ block, bytes, before, marked, onRefresh }: Props) {
  const [open, setOpen] = useState<string | undefined>(undefined);
  const registers = decodeBlock(block, bytes, before);
  return (
    <table data-testid={`block-${block.block}`}>
      <thead>
        <tr>
          <th>offset</th>
          <th>register</th>
          <th class="right">value</th>
          <th class="wide">
            fields of {block.block} (
            {block.region === CONFIGURATION_SPACE ? 'configuration space' : `BAR ${block.region}`};{' '}
            {block.specification}){' '}
            <button type="button" data-testid={`refresh-${block.block}`} title="read again (u)" onClick={onRefresh}>
              ↻
            </button>
          </th>
        </tr>
      </thead>
      <tbody>
        {registers.map(register => (
          <Register
            key={register.name}
            register={register}
            isOpen={open === register.name}
            isMarked={marked !== undefined && marked >= register.offset && marked < register.offset + register.bytes}
            onToggle={() => setOpen(open === register.name ? undefined : register.name)}
          />
        ))}
      </tbody>
    </table>
  );
}

interface RegisterProps {
  readonly register: DecodedRegister;
  readonly isOpen: boolean;
  readonly isMarked: boolean;
  readonly onToggle: () => void;
}

function Register({ register, isOpen, isMarked, onToggle }: RegisterProps) {
  const { name, offset, bytes, section, value, before, fields } = register;
  const row = useRef<HTMLTableRowElement>(null);
  useEffect(() => {
    if (isMarked) row.current?.scrollIntoView({ block: 'center' });
  }, [isMarked]);
  return (
    <>
      <tr
        ref={row}
        class={`pick ${isMarked || isOpen ? 'selected' : ''}`}
        data-testid={`register-${name}`}
        data-value={hex(value)}
        tabIndex={0}
        aria-expanded={isOpen}
        onClick={onToggle}
        onKeyDown={event => {
          if (event.key !== 'Enter' && event.key !== ' ') return;
          event.preventDefault();
          onToggle();
        }}
      >
        <td class="mono right">{hex(offset, 3)}</td>
        <td class="mono">{name}</td>
        <td class={`mono right ${before === undefined ? '' : 'changed'}`}>
          {hexGroups(value, bytes)}
          {before !== undefined && <div class="faint">was {hexGroups(before, bytes)}</div>}
        </td>
        <td class="register-fields">
          {fields.map(field => (
            <span key={field.name} class={field.changed ? 'changed' : field.value === 0n ? 'zero' : ''}>
              {field.name}={hex(field.value)}
            </span>
          ))}
        </td>
      </tr>
      {isOpen && (
        <tr>
          <td colSpan={4} class="wrap">
            <p class="faint">
              {name}: {bytes} bytes, section {section}
            </p>
            <Bits value={value} bytes={bytes} />
            <table>
              <thead>
                <tr>
                  <th>field</th>
                  <th class="right">bits</th>
                  <th>access</th>
                  <th class="right">value</th>
                  <th class="wide">why</th>
                </tr>
              </thead>
              <tbody>
                {fields.map(field => (
                  <tr key={field.name}>
                    <td class="mono">{field.name}</td>
                    <td class="mono right">{formatBits(field.bits)}</td>
                    <td class="mono">{field.access}</td>
                    <td class={`mono right ${field.changed ? 'changed' : ''}`}>{hex(field.value)}</td>
                    <td class="wrap faint">{field.why ?? ''}</td>
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
