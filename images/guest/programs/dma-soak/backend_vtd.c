/* The VT-d unit, driven by this program; the guest's kernel leaves it alone (intel_iommu=off iomem=relaxed). */
#include "backend.h"
#include "pci/sysfs.h"
#include "report/report.h"
#include "vtd/domain.h"

#include <string.h>
#include <unistd.h>

/* Ids that no other program in this start of the guest is likely to have had. */
#define DOMAIN_IDS 0xfff0u
#define IDS_PER_PROCESS 128u

static struct vtd_unit unit;
static struct vtd_domain domains[MAX_DOMAINS];
static struct pci_function functions[MAX_DEVICES];
static struct edu edus[MAX_DEVICES];

static bool open_all(const struct pci_addresses *list)
{
	TRY(vtd_open(&unit));
	for (size_t i = 0; i < MAX_DOMAINS; i++)
		TRY(vtd_domain_create(&domains[i], &unit,
				      (uint16_t)(((unsigned)getpid() * IDS_PER_PROCESS + i) % DOMAIN_IDS + 1),
				      i == 0 ? 3 : 4));
	for (size_t i = 0; i < MAX_DEVICES && i < list->count; i++)
		TRY(pci_open(&functions[i], list->list[i]) && edu_start(&edus[i], &functions[i]));
	return true;
}

static bool close_all(void)
{
	bool done = true;

	for (size_t i = 0; i < MAX_DOMAINS; i++)
		done = (!domains[i].root || vtd_domain_clear(&domains[i])) && done;
	for (size_t i = 0; i < MAX_DEVICES; i++)
		pci_close(&functions[i]);
	done = vtd_close(&unit) && done;
	memset(domains, 0, sizeof(domains));
	return done;
}

static bool attach(size_t device, size_t domain)
{
	return vtd_attach(&domains[domain], pci_requester_id(functions[device].address));
}

static bool detach(size_t device, size_t domain)
{
	return vtd_detach(&domains[domain], pci_requester_id(functions[device].address));
}

static struct edu *edu_of(size_t device)
{
	return &edus[device];
}

static uint64_t permissions(bool writable)
{
	return writable ? VTD_READ_WRITE : VTD_READ;
}

static bool map(size_t domain, uint64_t iova, uint8_t *const *pages, size_t count, bool writable)
{
	for (size_t i = 0; i < count; i++) {
		if (!vtd_map(&domains[domain], iova + i * SMALL_PAGE, soak_physical(pages[i]), SMALL_PAGE,
			     permissions(writable)))
			return false;
	}
	return true;
}

static bool unmap(size_t domain, uint64_t iova, size_t count)
{
	return vtd_unmap(&domains[domain], iova, count * SMALL_PAGE);
}

static bool map_large(size_t domain, uint64_t iova, uint8_t *memory, bool writable)
{
	return vtd_map(&domains[domain], iova, soak_physical(memory), LARGE_PAGE, permissions(writable));
}

static bool unmap_large(size_t domain, uint64_t iova)
{
	return vtd_unmap(&domains[domain], iova, LARGE_PAGE);
}

const struct backend vtd_backend = {
	.name = "vtd",
	.domains = MAX_DOMAINS,
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
