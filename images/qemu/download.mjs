// Fills the cache with packages, in a layer of its own that only a change of the code for that makes anew.
import { provisionGuestPackages, provisionQemu } from './dist/qemu/provision.js';

const options = { progress: message => console.error(message) };
await provisionQemu(options);
await provisionGuestPackages(options);
