/* The dma-iommu function: two domains whose tables are its own, and one whose tables are this program's. */
#include "backend.h"
#include "dma_iommu_cases/callers.h"

#define CALLERS_DOMAIN 2
#define INPUT_BITS 48
/* More pages than any buffer has. */
#define MAX_PAGES 512
#define LARGE_LEVEL 2

static struct fixture fixture;
static PIOMMU_DMA_DOMAIN domains[MAX_DOMAINS];
static struct tables tables;

static bool open_all(const struct pci_addresses *list)
{
	static struct pci_addresses iommus;

	pci_addresses_find(&iommus, DMA_IOMMU_PCI_VENDOR_ID, DMA_IOMMU_PCI_DEVICE_ID);
	if (iommus.count == 0)
		return failed("no dma-iommu function in this guest");
	TRY(fixture_begin(&fixture, iommus.list[0], list));
	for (size_t i = 0; i < MAX_DEVICES && i < list->count; i++)
		TRY(use_edu(&fixture));
	for (size_t i = 0; i < MAX_DOMAINS; i++)
		SUCCEEDS(fixture.v1.CreateDomain(i != CALLERS_DOMAIN, &domains[i]));
	TRY(arm64_tables(&tables, &fixture.arena, 12, INPUT_BITS));
	SUCCEEDS(configure(&fixture, domains[CALLERS_DOMAIN], &tables, INPUT_BITS));
	return true;
}

static bool delete_domains(void)
{
	for (size_t i = 0; i < MAX_DOMAINS; i++) {
		PIOMMU_DMA_DOMAIN domain = domains[i];

		domains[i] = NULL;
		if (domain)
			SUCCEEDS(fixture.v1.DeleteDomain(domain));
	}
	return true;
}

static bool close_all(void)
{
	bool done = delete_domains();

	fixture_end(&fixture);
	return done;
}

static bool attach(size_t device, size_t domain)
{
	SUCCEEDS(fixture.v1.AttachDevice(domains[domain], fixture.devices[device].object, 0, 1));
	return true;
}

static bool detach(size_t device, size_t domain)
{
	SUCCEEDS(fixture.v1.DetachDevice(domains[domain], fixture.devices[device].object, 0));
	return true;
}

static struct edu *edu_of(size_t device)
{
	return &fixture.devices[device].edu;
}

static uint32_t permissions(bool writable)
{
	return writable ? READ_WRITE : READ;
}

static bool map_frames(size_t domain, uint64_t iova, PFN_NUMBER *frames, size_t count, bool writable)
{
	MDL mdl = { .ByteCount = count * SMALL_PAGE, .Pages = frames };

	SUCCEEDS(fixture.v1.MapLogicalRange(domains[domain], permissions(writable), &mdl, iova));
	return true;
}

static bool map(size_t domain, uint64_t iova, uint8_t *const *pages, size_t count, bool writable)
{
	PFN_NUMBER frames[MAX_PAGES];

	for (size_t i = 0; i < count; i++) {
		frames[i] = soak_physical(pages[i]) / SMALL_PAGE;
		if (domain == CALLERS_DOMAIN)
			TRY(tables_map(&tables, iova + i * SMALL_PAGE, frames[i] * SMALL_PAGE, 1,
				       permissions(writable)));
	}
	return domain == CALLERS_DOMAIN || map_frames(domain, iova, frames, count, writable);
}

/* Clears entries of this program's tables, and flushes what it cleared. */
static bool clear(uint64_t iova, size_t count, unsigned level)
{
	uint64_t list[MAX_PAGES];

	for (size_t i = 0; i < count; i++) {
		uint64_t *entry;

		list[i] = iova + i * SMALL_PAGE;
		entry = tables_entry(&tables, list[i], level);
		TRY(entry);
		__atomic_store_n(entry, 0, __ATOMIC_SEQ_CST);
	}
	SUCCEEDS(fixture.v1.FlushDomainByVaList(domains[CALLERS_DOMAIN], 1, (ULONG)count, list));
	return true;
}

static bool unmap(size_t domain, uint64_t iova, size_t count)
{
	if (domain == CALLERS_DOMAIN)
		return clear(iova, count, 1);
	SUCCEEDS(fixture.v1.UnmapLogicalRange(domains[domain], iova, count));
	return true;
}

static bool map_large(size_t domain, uint64_t iova, uint8_t *memory, bool writable)
{
	PFN_NUMBER frames[MAX_PAGES];

	if (domain == CALLERS_DOMAIN)
		return tables_map(&tables, iova, soak_physical(memory), LARGE_LEVEL, permissions(writable));
	for (size_t i = 0; i < MAX_PAGES; i++)
		frames[i] = soak_physical(memory) / SMALL_PAGE + i;
	return map_frames(domain, iova, frames, MAX_PAGES, writable);
}

static bool unmap_large(size_t domain, uint64_t iova)
{
	if (domain == CALLERS_DOMAIN)
		return clear(iova, 1, LARGE_LEVEL);
	SUCCEEDS(fixture.v1.UnmapLogicalRange(domains[domain], iova, LARGE_PAGE / SMALL_PAGE));
	return true;
}

const struct backend dma_iommu_backend = {
	.name = "dma-iommu",
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
