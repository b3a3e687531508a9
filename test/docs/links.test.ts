import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { repository } from '../support.ts';

const docs = readdirSync(join(repository, 'docs')).filter(name => name.endsWith('.md'));
const pages = ['README.md', ...docs.map(name => join('docs', name))];

function anchorsOf(page: string): string[] {
  const titles = [...page.matchAll(/^#+ (.*)$/gm)].map(([, title]) => title!);
  return titles.map(title =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  );
}

describe('links between pages', () => {
  it.each(pages)('of %s lead somewhere', page => {
    const text = readFileSync(join(repository, page), 'utf8').replace(/```[\s\S]*?```/g, '');
    const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, link]) => link!)
      .filter(link => !/^https?:/.test(link));
    const broken = links.filter(link => {
      const [path, anchor] = link.split('#');
      const file = path === '' ? page : join(dirname(page), path!);
      if (!existsSync(join(repository, file))) return true;
      return anchor !== undefined && !anchorsOf(readFileSync(join(repository, file), 'utf8')).includes(anchor);
    });
    expect(broken).toEqual([]);
  });

  it.each(docs)('docs/%s is reached from another page', name => {
    const others = pages.filter(page => page !== join('docs', name));
    const texts = others.map(page => readFileSync(join(repository, page), 'utf8'));
    expect(texts.some(text => text.includes(`${name})`) || text.includes(`${name}#`))).toBe(true);
  });
});
