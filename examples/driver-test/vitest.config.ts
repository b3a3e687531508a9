import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // The first time, images are built and a compiler is fetched.
    hookTimeout: 600_000,
    testTimeout: 60_000,
  },
});
