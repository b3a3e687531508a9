/** The pod that docs/kubernetes shows, against the API that Kubernetes publishes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type IPod, Pod } from 'kubernetes-models/v1/Pod';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { repository } from '../support.ts';

const text = readFileSync(join(repository, 'docs/kubernetes/pod.yaml'), 'utf8');
const pod = parse(text) as IPod & { spec: NonNullable<IPod['spec']> };
const containers = [...(pod.spec.initContainers ?? []), ...pod.spec.containers];

/** What the compiler says of a pod as a literal: of one it complains about fields that the API does not have. */
function unknownFields(value: unknown): string {
  const directory = mkdtempSync(join(tmpdir(), 'viommu-pod-'));
  try {
    const api = join(repository, 'node_modules/kubernetes-models/v1/Pod.js');
    const file = join(directory, 'pod.mts');
    writeFileSync(file, `import type { IPod } from '${api}';\nexport const pod: IPod = ${JSON.stringify(value)};\n`);
    const compiler = join(repository, 'node_modules/typescript/bin/tsc');
    const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--types', ''];
    const { stdout, error } = spawnSync(process.execPath, [compiler, ...flags, file], {
      cwd: directory,
      encoding: 'utf8',
    });
    if (error) throw error;
    return stdout;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe('the pod', () => {
  it('is one that the API of Kubernetes takes', () => {
    expect(() => new Pod(structuredClone(pod)).validate()).not.toThrow();
    const wrong = structuredClone(pod) as { spec: { restartPolicy?: unknown } };
    wrong.spec.restartPolicy = 7;
    expect(() => new Pod(wrong as IPod).validate()).toThrow(/restartPolicy/);
  });

  it('has no field that the API does not know', () => {
    expect(unknownFields(pod)).toBe('');
    expect(unknownFields({ ...pod, spec: { ...pod.spec, hostNetwrok: true } })).toMatch(/hostNetwrok/);
  });

  it('mounts only volumes that it has, and uses each', () => {
    const mounted = new Set(containers.flatMap(({ volumeMounts = [] }) => volumeMounts.map(({ name }) => name)));
    expect([...mounted].sort()).toEqual((pod.spec.volumes ?? []).map(({ name }) => name).sort());
  });

  it('gives server and guest the same directory, and nothing that they do not need', () => {
    for (const { args = [], volumeMounts = [], securityContext } of containers) {
      expect(args).toContain('/run/viommu');
      expect(volumeMounts).toContainEqual({ name: 'machines', mountPath: '/run/viommu' });
      expect(securityContext).toMatchObject({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true });
    }
    expect(pod.spec.securityContext).toMatchObject({ runAsNonRoot: true, runAsUser: 1000 });
  });

  it('starts the guest when the server is well, and is over when the guest is', () => {
    const [server] = pod.spec.initContainers ?? [];
    expect(server).toMatchObject({
      name: 'server',
      restartPolicy: 'Always',
      startupProbe: { exec: { command: ['healthy', '--now'] } },
    });
    expect(pod.spec.restartPolicy).toBe('Never');
  });
});
