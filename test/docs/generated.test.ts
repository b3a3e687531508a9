import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { generatedPages } from '../../docs/generate.ts';
import { repository } from '../support.ts';

describe('docs', () => {
  it.each(Object.entries(generatedPages()))(
    '%s says what the definitions say (npm run docs writes it)',
    (name, content) => {
      expect(readFileSync(join(repository, 'docs', name), 'utf8')).toBe(content);
    },
  );
});
