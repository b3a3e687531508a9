/** A named volume, in which two containers see each other's sockets. */
import { randomUUID } from 'node:crypto';
import { getContainerRuntimeClient, getReaper, LABEL_TESTCONTAINERS_SESSION_ID } from 'testcontainers';

export interface Volume {
  readonly name: string;
  /** To be called when no container uses it any more. */
  remove(): Promise<void>;
}

/** Labelled as containers are, so that what cleans up after a killed test process finds it too. */
export async function createVolume(): Promise<Volume> {
  const client = await getContainerRuntimeClient();
  const { sessionId } = await getReaper(client);
  const { dockerode } = client.container;
  const name = `viommu-${randomUUID()}`;
  await dockerode.createVolume({
    Name: name,
    Labels: { 'org.testcontainers': 'true', [LABEL_TESTCONTAINERS_SESSION_ID]: sessionId },
  });
  return {
    name,
    async remove() {
      await dockerode.getVolume(name).remove();
    },
  };
}
