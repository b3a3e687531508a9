import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FrameQueue } from '../../../src/vfio-user/websocket/frame-queue.ts';

test('a frame queue does what an array does', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.integer({ min: 0, max: 9 }).map(size => ({ push: size })) },
    { weight: 4, arbitrary: fc.constant('shift' as const) },
    { weight: 1, arbitrary: fc.constant('shift all but one' as const) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), steps => {
      const queue = new FrameQueue();
      let plain: Buffer[] = [];
      steps.forEach((one, i) => {
        if (typeof one === 'object') {
          const frame = Buffer.alloc(one.push, i);
          queue.push(frame);
          plain.push(frame);
        } else {
          const least = one === 'shift' ? plain.length - 1 : 1;
          while (plain.length > 0 && plain.length > least) expect(queue.shift()).toBe(plain.shift());
        }
        expect(queue.length).toBe(plain.length);
        expect(queue.bytes).toBe(plain.reduce((sum, { length }) => sum + length, 0));
        plain.forEach((frame, at) => {
          expect(queue.at(at)).toBe(frame);
        });
      });
      queue.clear();
      plain = [];
      expect([queue.length, queue.bytes]).toEqual([0, 0]);
    }),
  );
});
