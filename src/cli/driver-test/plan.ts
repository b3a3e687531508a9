/** What `viommu test` is asked to do, checked as far as it can be without a guest. */
import { statSync } from 'node:fs';
import { basename, posix } from 'node:path';
import { moduleName } from '../../../images/guest/modules.ts';
import { UsageError } from '../errors.ts';
import { splitCopy } from '../guest/copies.ts';
import { checkProgram } from './program.ts';
import { checkModuleSource } from './source.ts';

/** Folder of the guest where everything goes that has no other place, and where scripts start. */
export const GUEST_FOLDER = '/test';
/** A guest's RAM holds them all. */
const MAX_FILES = 1000;
/** They are the kernel's, and nothing can be put there. */
const NO_PLACE_FOR_FILES = ['/proc', '/sys', '/dev'];

export interface TestFlags {
  readonly module?: readonly string[];
  readonly moduleSource?: readonly string[];
  readonly moduleParams?: readonly string[];
  readonly run?: readonly string[];
  readonly file?: readonly string[];
}

export interface PlannedFile {
  readonly hostPath: string;
  readonly guestPath: string;
  readonly mode: number;
}

export interface PlannedCase {
  /** As the user wrote it. */
  readonly name: string;
  readonly guestPath: string;
  readonly arguments: readonly string[];
  /** It has no first line that says so, but is for the shell. */
  readonly isForShell: boolean;
}

/** In the order in which they are loaded. */
export type PlannedModule =
  | { readonly kind: 'file'; readonly path: string }
  /** One of the guest's kernel. */
  | { readonly kind: 'stock'; readonly name: string }
  | { readonly kind: 'source'; readonly folder: string };

export interface TestPlan {
  readonly modules: readonly PlannedModule[];
  /** By the module's name as the kernel has it. */
  readonly parameters: ReadonlyMap<string, string>;
  readonly cases: readonly PlannedCase[];
  /** The cases' programs and the user's files. */
  readonly files: readonly PlannedFile[];
}

/** Throws a UsageError for the first thing that cannot be right. */
export function planTest(flags: TestFlags, scriptArguments: readonly string[]): TestPlan {
  const modules = [...(flags.module ?? []).map(planModule), ...(flags.moduleSource ?? []).map(planSource)];
  const runs = flags.run ?? [];
  if (runs.length === 0 && modules.length === 0) {
    throw new UsageError('there is nothing to test: name a --module to load, a script to --run, or both');
  }
  if (runs.length === 0 && scriptArguments.length > 0) {
    throw new UsageError(`the arguments '${scriptArguments.join(' ')}' are for a script: name it with --run`);
  }
  const taken = new Set<string>();
  const files = (flags.file ?? []).map(text => planFile(text, taken));
  const cases = runs.map((path, index) => planCase(path, index, scriptArguments, files, taken));
  const programs = cases.map(({ name, guestPath }) => ({ hostPath: name, guestPath, mode: 0o755 }));
  if (files.length + programs.length > MAX_FILES) {
    throw new UsageError(
      `there are more than ${MAX_FILES} files: pack them into one archive, and unpack it in the guest`,
    );
  }
  return { modules, parameters: planParameters(flags, modules), cases, files: [...files, ...programs] };
}

function planModule(text: string): PlannedModule {
  const isFile = text.includes('/') || /\.ko(?:\.\w+)?$/.test(text);
  if (!isFile) return { kind: 'stock', name: text };
  checkFile(text, 'module');
  return { kind: 'file', path: text };
}

function planSource(folder: string): PlannedModule {
  checkModuleSource(folder);
  return { kind: 'source', folder };
}

/** `NAME:WORD WORD...` by name. What a source folder builds is not known yet, so that any name may be meant for it. */
function planParameters({ moduleParams = [] }: TestFlags, modules: readonly PlannedModule[]): Map<string, string> {
  const known = modules.flatMap(one => (one.kind === 'source' ? [] : [nameOf(one)]));
  const isOpen = modules.some(({ kind }) => kind === 'source');
  const parameters = new Map<string, string>();
  for (const text of moduleParams) {
    const colon = text.indexOf(':');
    if (colon < 1)
      throw new UsageError(`--module-params '${text}' is not MODULE:PARAMETERS, such as 'my:debug=1 rings=4'`);
    const name = moduleName(text.slice(0, colon));
    if (!isOpen && !known.includes(name)) {
      throw new UsageError(
        `--module-params '${text}': no --module is named ${name} (${known.join(', ') || 'there are none'})`,
      );
    }
    parameters.set(name, [parameters.get(name), text.slice(colon + 1)].filter(Boolean).join(' '));
  }
  return parameters;
}

function nameOf(module: Exclude<PlannedModule, { kind: 'source' }>): string {
  return moduleName(module.kind === 'file' ? module.path : module.name);
}

/** `FILE` goes to GUEST_FOLDER, `FILE:PATH` to that path. */
function planFile(text: string, taken: Set<string>): PlannedFile {
  const { file: hostPath, guestPath: given } = splitCopy(text);
  const place = given ?? posix.join(GUEST_FOLDER, basename(hostPath));
  const guestPath = place.endsWith('/') ? posix.join(place, basename(hostPath)) : posix.normalize(place);
  if (NO_PLACE_FOR_FILES.some(folder => guestPath === folder || guestPath.startsWith(`${folder}/`))) {
    throw new UsageError(`--file ${text}: nothing can be put into ${guestPath}, which is the kernel's`);
  }
  const { mode } = checkFile(hostPath, 'file');
  return { hostPath, guestPath: take(guestPath, taken, `--file ${text}`), mode: mode & 0o777 };
}

function planCase(
  path: string,
  index: number,
  scriptArguments: readonly string[],
  files: readonly PlannedFile[],
  taken: Set<string>,
): PlannedCase {
  checkFile(path, 'script');
  const isForShell =
    checkProgram(
      path,
      files.map(({ guestPath }) => guestPath),
    ) === 'shell';
  const usual = posix.join(GUEST_FOLDER, basename(path));
  // Two folders may each have a test.sh.
  const place = taken.has(usual) ? posix.join(GUEST_FOLDER, `run${index + 1}`, basename(path)) : usual;
  return { name: path, guestPath: take(place, taken, `--run ${path}`), arguments: scriptArguments, isForShell };
}

function take(guestPath: string, taken: Set<string>, what: string): string {
  if (taken.has(guestPath)) throw new UsageError(`${what}: another file already goes to ${guestPath} in the guest`);
  taken.add(guestPath);
  return guestPath;
}

function checkFile(path: string, what: string): { readonly mode: number } {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new UsageError(`there is no ${what} ${path}`);
  if (!found.isFile()) throw new UsageError(`the ${what} ${path} is not a file`);
  return found;
}
