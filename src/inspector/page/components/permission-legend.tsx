import type { ComponentChildren } from 'preact';

/** The patterns are those that the map is painted with. */
export function PermissionLegend({ children }: { readonly children: ComponentChildren }) {
  return (
    <div class="legend">
      <span class="tone-blue">
        <Swatch pattern="both" />
        read and write
      </span>
      <span class="tone-green">
        <Swatch pattern="read" />
        read only
      </span>
      <span class="tone-orange">
        <Swatch pattern="write" />
        write only
      </span>
      <span>touches: ↑ reads, ↓ writes</span>
      <span class="tone-vermillion">▲ refused</span>
      <span class="spring" />
      {children}
    </div>
  );
}

function Swatch({ pattern }: { readonly pattern: 'both' | 'read' | 'write' }) {
  return (
    <svg width="26" height="13" aria-hidden="true">
      <rect
        x="0.5"
        y="0.5"
        width="25"
        height="12"
        fill="currentColor"
        fill-opacity={pattern === 'both' ? 0.75 : 0.28}
        stroke="currentColor"
      />
      {pattern === 'read' && (
        <path d="M-4 13 L9 0 M4 13 L17 0 M12 13 L25 0 M20 13 L33 0" stroke="currentColor" stroke-width="1.5" />
      )}
      {pattern === 'write' && <path d="M0 4.5 H26 M0 8.5 H26" stroke="currentColor" stroke-width="1.5" />}
    </svg>
  );
}
