/** The stock guest gives the machine's devices to vfio-pci when it comes up; a driver that is loaded gets them where nobody has them. */

const DRIVER = '/sys/bus/pci/drivers/vfio-pci';
const TAKEN = /^[0-9a-f]{4} [0-9a-f]{4}$/;

/** Prints vendor and device of each device that it takes from VFIO, as remove_id and new_id want them. */
export const RELEASE_DEVICES = [
  `for d in ${DRIVER}/0000:*; do [ -e "$d" ] || continue`,
  'id="$(cut -c3- "$d/vendor") $(cut -c3- "$d/device")"',
  'echo "$id"',
  `echo "$id" >${DRIVER}/remove_id 2>/dev/null`,
  `echo "\${d##*/}" >${DRIVER}/unbind`,
  'done',
].join('; ');

/** A command by which devices that no module wanted are for programs again; `released`: what RELEASE_DEVICES said. undefined: none was taken. */
export function giveBackDevices(released: readonly string[]): string | undefined {
  const ids = [...new Set(released.filter(line => TAKEN.test(line)))];
  return ids.length === 0 ? undefined : ids.map(id => `echo ${id} >${DRIVER}/new_id`).join('; ');
}
