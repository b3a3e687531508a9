// Makes a fresh checkout runnable: dependencies, then the compiled program. Plain JavaScript, because it runs before both.
// Does nothing, quickly, where both are up to date.
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const MINIMUM_NODE = 20;
const SOURCES = [
  'src',
  'qemu',
  'images',
  'bench',
  'docs',
  'test/fuzz',
  'package.json',
  'tsconfig.json',
  'tsconfig.build.json',
];

function fail(message) {
  console.error(`viommu: ${message}`);
  process.exit(1);
}

function run(what, command, args) {
  console.error(`viommu: ${what} ...`);
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (error) fail(`cannot run ${command}: ${error.message}`);
  if (status !== 0) fail(`${what} failed (${command} ${args.join(' ')} ended with ${status})`);
}

function modified(path) {
  return existsSync(path) ? statSync(path).mtimeMs : 0;
}

function newest(path) {
  if (!existsSync(path)) return 0;
  if (!statSync(path).isDirectory()) return modified(path);
  return Math.max(modified(path), ...readdirSync(path).map(name => newest(join(path, name))));
}

if (Number(process.versions.node.split('.')[0]) < MINIMUM_NODE) {
  fail(`Node ${MINIMUM_NODE} or newer is needed, this is ${process.version}: see https://nodejs.org/en/download`);
}
if (process.platform !== 'linux' || process.arch !== 'x64') {
  fail(`it runs on Linux on x86-64, not on ${process.platform} on ${process.arch}`);
}

const installed = join(root, 'node_modules', '.package-lock.json');
if (modified(installed) < modified(join(root, 'package-lock.json'))) {
  run('installing dependencies', 'npm', ['ci', '--no-audit', '--no-fund']);
}

const built = join(root, 'dist', '.built');
if (modified(built) < Math.max(...SOURCES.map(name => newest(join(root, name))))) {
  // Beside the old one, which stays whole for whatever runs from it, and stays at all where this fails.
  const fresh = join(root, 'dist.new');
  const old = join(root, 'dist.old');
  const tool = (...path) => join(root, 'node_modules', ...path);
  rmSync(fresh, { recursive: true, force: true });
  run('compiling', process.execPath, [
    tool('typescript', 'bin', 'tsc'),
    '-p',
    'tsconfig.build.json',
    '--outDir',
    fresh,
  ]);
  const page = join(root, 'src', 'inspector', 'page', 'vite.config.ts');
  run('building the inspector', process.execPath, [
    tool('vite', 'bin', 'vite.js'),
    'build',
    '--config',
    page,
    '--outDir',
    join(fresh, 'inspector-page'),
    '--logLevel',
    'warn',
  ]);
  writeFileSync(join(fresh, '.built'), '');
  rmSync(old, { recursive: true, force: true });
  if (existsSync(join(root, 'dist'))) renameSync(join(root, 'dist'), old);
  renameSync(fresh, join(root, 'dist'));
  rmSync(old, { recursive: true, force: true });
}

// So that `npx viommu` finds the checkout's own program.
const program = join(root, 'dist', 'src', 'cli', 'main.js');
const link = join(root, 'node_modules', '.bin', 'viommu');
if (existsSync(program)) {
  chmodSync(program, 0o755);
  chmodSync(join(dirname(program), 'backend-main.js'), 0o755);
  rmSync(link, { force: true });
  symlinkSync(program, link);
}
