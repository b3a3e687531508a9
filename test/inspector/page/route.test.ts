import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findToken, formatRoute, parseRoute, VIEWS } from '../../../src/inspector/page/route.ts';

describe('routes', () => {
  it('has the view and its arguments behind the #', () => {
    expect(parseRoute('#/trace?class=dma&device=01:00.0')).toEqual({
      view: 'trace',
      args: { class: 'dma', device: '01:00.0' },
    });
  });

  it.each(['', '#', '#/', '#/nothing', '#token=abc'])('shows the overview for %j', hash => {
    expect(parseRoute(hash)).toEqual({ view: 'overview', args: {} });
  });

  it('leaves empty arguments out', () => {
    expect(formatRoute('trace', { class: 'dma', device: '', iova: undefined })).toBe('#/trace?class=dma');
    expect(formatRoute('rates')).toBe('#/rates');
  });

  it('leaves what people read as it is', () => {
    expect(formatRoute('tables', { device: '01:00.0', iova: '0x1000' })).toBe('#/tables?device=01:00.0&iova=0x1000');
  });

  it('reads back what it wrote', () => {
    const name = fc.stringMatching(/^[a-z]{1,8}$/).filter(key => key !== 'token');
    fc.assert(
      fc.property(
        fc.constantFrom(...VIEWS),
        fc.dictionary(name, fc.string({ minLength: 1 }), { noNullPrototype: true }),
        (view, args) => {
          expect(parseRoute(formatRoute(view, args))).toEqual({ view, args });
        },
      ),
    );
  });
});

describe('tokens', () => {
  it.each([
    ['?token=abc', ''],
    ['', '#token=abc'],
    ['', '#/trace?class=dma&token=abc'],
  ])('finds it in %j %j', (search, hash) => {
    expect(findToken(search, hash)).toBe('abc');
  });

  it('does not keep it among the arguments of a view', () => {
    expect(parseRoute('#/trace?token=abc&class=dma').args).toEqual({ class: 'dma' });
  });

  it('may be missing', () => {
    expect(findToken('', '#/trace')).toBeUndefined();
  });
});
