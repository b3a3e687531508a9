/** What `viommu serve --dir DIR` and `viommu qemu-args --dir DIR` leave for each other in DIR, beside the sockets. */
export const MACHINE_FILE = 'machine.json';
export const DMAR_FILE = 'dmar.aml';
export const SSDT_FILE = 'ssdt.aml';
