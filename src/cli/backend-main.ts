#!/usr/bin/env node
/** `viommu backend` as a program of its own: management software starts a program by its path, with the options of a backend alone. */
import { backendCommand } from './backend.ts';
import { runToEnd } from './run-program.ts';
import { VERSION } from './version.ts';

await runToEnd(backendCommand('viommu-backend').version(VERSION).exitOverride());
