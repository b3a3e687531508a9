/** What a page of docs/ shows: its code blocks, and what of output stays the same from run to run. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repository } from '../support.ts';

export interface Block {
  /** Behind the opening fence: `c`, `sh`, `ts`, or nothing. */
  readonly language: string;
  /** Of a comment `<!-- output: NAME -->` right before the block. */
  readonly output: string | undefined;
  readonly lines: readonly string[];
}

export function readPage(name: string): string {
  return readFileSync(join(repository, 'docs', name), 'utf8');
}

export function blocksOf(page: string): Block[] {
  const pattern = /(?:<!-- output: (.*) -->\n)?```(\w*)\n([\s\S]*?)\n```/g;
  return [...page.matchAll(pattern)].map(([, output, language = '', text = '']) => ({
    language,
    output,
    lines: text.split('\n'),
  }));
}

/** The block that shows this output. */
export function outputBlock(page: string, output: string): readonly string[] {
  const found = blocksOf(page).filter(block => block.output === output);
  if (found.length !== 1) throw new Error(`the page has ${found.length} blocks <!-- output: ${output} -->`);
  return found[0]!.lines;
}

/** Times, memory addresses and how lines are broken differ from run to run; devices, addresses of the program's own choice and words do not. */
export function masked(text: string): string {
  return text
    .replace(/\[ *\d+\.\d+\]/g, '[TIME]')
    .replace(/-?\d+(?:\.\d+)? (?:ns|us|ms|s)\b/g, 'TIME')
    .replace(/\b\d+\.\d{9}\b/g, 'TIME')
    .replace(/-> 0x[0-9a-f]+/g, '-> FRAME')
    .replace(/\b(frame|entryAddress)=0x[0-9a-f]+/g, '$1=FRAME')
    .replace(/\s+/g, ' ')
    .trim();
}
