#!/usr/bin/env node
import { buildProgram } from './program.ts';
import { runToEnd } from './run-program.ts';

await runToEnd(buildProgram());
