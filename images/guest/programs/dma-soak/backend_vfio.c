/* The guest kernel's own driver, through VFIO. */
#include "backend.h"
#include "vfio/vfio.h"

static const struct pci_addresses *addresses;
static struct vfio_function functions[MAX_DEVICES];
static struct edu edus[MAX_DEVICES];

static bool open_all(const struct pci_addresses *list)
{
	addresses = list;
	for (size_t i = 0; i < MAX_DEVICES; i++)
		functions[i].container_fd = functions[i].group_fd = functions[i].device_fd = -1;
	return true;
}

static bool close_all(void)
{
	for (size_t i = 0; i < MAX_DEVICES; i++)
		vfio_close(&functions[i]);
	return true;
}

static bool attach(size_t device, size_t domain)
{
	(void)domain;
	return vfio_open(&functions[device], addresses->list[device]) &&
	       edu_start(&edus[device], &functions[device].pci);
}

static bool detach(size_t device, size_t domain)
{
	(void)domain;
	vfio_close(&functions[device]);
	return true;
}

static struct edu *edu_of(size_t device)
{
	return &edus[device];
}

static uint32_t flags(bool writable)
{
	return VFIO_DMA_MAP_FLAG_READ | (writable ? VFIO_DMA_MAP_FLAG_WRITE : 0);
}

static bool map(size_t domain, uint64_t iova, uint8_t *const *pages, size_t count, bool writable)
{
	for (size_t i = 0; i < count; i++) {
		if (!vfio_map(&functions[domain], pages[i], iova + i * SMALL_PAGE, SMALL_PAGE, flags(writable)))
			return false;
	}
	return true;
}

static bool unmap(size_t domain, uint64_t iova, size_t count)
{
	return vfio_unmap(&functions[domain], iova, count * SMALL_PAGE);
}

static bool map_large(size_t domain, uint64_t iova, uint8_t *memory, bool writable)
{
	return vfio_map(&functions[domain], memory, iova, LARGE_PAGE, flags(writable));
}

static bool unmap_large(size_t domain, uint64_t iova)
{
	return vfio_unmap(&functions[domain], iova, LARGE_PAGE);
}

const struct backend vfio_backend = {
	.name = "vfio",
	.domains = MAX_DEVICES,
	.own_domains = true,
	.open = open_all,
	.close = close_all,
	.attach = attach,
	.detach = detach,
	.edu = edu_of,
	.map = map,
	.unmap = unmap,
	.map_large = map_large,
	.unmap_large = unmap_large,
};
