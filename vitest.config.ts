import { defineConfig } from 'vitest/config';

/** A condition that comes about late on a busy machine comes about; one that never does is told soon enough. */
const patient = { poll: { timeout: 20_000, interval: 20 } };

/** Guests take the whole machine, so they run after everything else and one at a time. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'rooms',
          include: ['test/**/*.test.ts'],
          exclude: ['test/guest/**', 'test/inspector/browser/**', 'test/containers/**'],
          // Left to itself, vitest keeps one processor for itself, which has little to do: on two, all files would run in a row.
          maxWorkers: '100%',
          // A test that hangs fails; one on a busy machine that starts ten processes does not.
          testTimeout: 120_000,
          hookTimeout: 120_000,
          expect: patient,
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          name: 'guest',
          include: ['test/guest/**/*.test.ts', 'test/inspector/browser/**/*.test.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 600_000,
          expect: patient,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          name: 'containers',
          include: ['test/containers/**/*.test.ts'],
          globalSetup: ['test/containers/setup.ts'],
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 900_000,
          expect: patient,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
