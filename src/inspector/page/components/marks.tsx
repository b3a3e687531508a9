/** Classes and severities by shape, word and colour together, so that none of them is needed alone. */

import type { EventClassName } from '../../../trace/event-kinds.ts';
import type { Finding } from '../../../trace/sanitizer/finding.ts';

export type Tone = 'blue' | 'sky' | 'green' | 'orange' | 'vermillion' | 'purple' | 'faint';

export const CLASS_MARKS: Readonly<Record<EventClassName, { readonly sign: string; readonly tone: Tone }>> = {
  register: { sign: '▭', tone: 'faint' },
  translation: { sign: '→', tone: 'sky' },
  dma: { sign: '●', tone: 'blue' },
  mapping: { sign: '■', tone: 'green' },
  attach: { sign: '+', tone: 'green' },
  invalidation: { sign: '×', tone: 'purple' },
  fault: { sign: '▲', tone: 'vermillion' },
  interrupt: { sign: '!', tone: 'orange' },
  connection: { sign: '○', tone: 'faint' },
  note: { sign: '–', tone: 'faint' },
  finding: { sign: '◆', tone: 'vermillion' },
};

const SEVERITY_MARKS: Readonly<Record<Finding['severity'], { readonly sign: string; readonly tone: Tone }>> = {
  note: { sign: '○', tone: 'sky' },
  warning: { sign: '▲', tone: 'orange' },
  stop: { sign: '■', tone: 'vermillion' },
};

export function SeverityMark({ severity }: { readonly severity: Finding['severity'] }) {
  const { sign, tone } = SEVERITY_MARKS[severity] ?? SEVERITY_MARKS.warning;
  return (
    <span class={`badge tone-${tone}`}>
      {sign} {severity}
    </span>
  );
}
