import { fileURLToPath } from 'node:url';
import { build } from 'vite';
import { describe, expect, it } from 'vitest';

const config = fileURLToPath(new URL('../../../src/inspector/page/vite.config.ts', import.meta.url));

interface Output {
  readonly fileName: string;
  readonly code?: string;
  readonly source?: string | Uint8Array;
}

async function built(): Promise<readonly Output[]> {
  const result = await build({ configFile: config, logLevel: 'silent', build: { write: false } });
  return (result as unknown as { output: readonly Output[] }).output;
}

describe('the built page', () => {
  it('holds to its security policy, and needs nothing from elsewhere', async () => {
    const output = await built();
    const html = String(output.find(one => one.fileName === 'index.html')?.source);
    expect(html).not.toMatch(/<script(?![^>]*\bsrc=)/);
    expect(html).not.toMatch(/<style|\sstyle=|\son\w+=/);
    for (const [, target] of html.matchAll(/(?:src|href)="([^"]*)"/g)) expect(target).toMatch(/^\.\//);
    const style = String(output.find(one => one.fileName.endsWith('.css'))?.source);
    expect(style).not.toMatch(/@import|url\(/);
    const code = output.map(one => one.code ?? '').join('');
    // What a browser does not have would have been left out with this mark.
    expect(code).not.toContain('__vite-browser-external');
    expect(code).not.toMatch(/\bfrom\s*"node:|require\("node:/);
  }, 30_000);
});
