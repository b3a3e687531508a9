/* Maps of versions 2 and 3, and the addresses that the buddy allocator chooses. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#define NO_FLAGS ((IOMMU_DMA_DOMAIN_CREATION_FLAGS){ 0 })

static unsigned long long printable(uint64_t value)
{
	return value;
}

static IOMMU_MAP_PHYSICAL_ADDRESS range_of(struct fixture *fixture, const void *memory, size_t size)
{
	return (IOMMU_MAP_PHYSICAL_ADDRESS){
		.MapType = MapPhysicalAddressTypeContiguousRange,
		.ContiguousRange = { .Base = physical_of(fixture, memory), .Size = size },
	};
}

static bool map_refusals(struct fixture *fixture, PIOMMU_DMA_DOMAIN domain, const void *memory)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_MAP_PHYSICAL_ADDRESS page = range_of(fixture, memory, SMALL_PAGE);
	IOMMU_MAP_PHYSICAL_ADDRESS half = range_of(fixture, memory, SMALL_PAGE / 2);
	IOMMU_DMA_LOGICAL_ADDRESS taken = SOURCE_IOVA, odd = 0x1001, free = 0x1000, out;
	PIOMMU_DMA_DOMAIN callers;

	REFUSES(v3->MapLogicalRangeEx(domain, READ, &page, NULL, NULL, NULL, &out), DMA_IOMMU_NT_NOT_SUPPORTED);
	REFUSES(v3->MapLogicalRangeEx(domain, READ, &page, &odd, NULL, NULL, &out), DMA_IOMMU_NT_INVALID_PARAMETER_4);
	REFUSES(v3->MapLogicalRangeEx(domain, READ, &half, &free, NULL, NULL, &out), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	REFUSES(v3->MapLogicalRangeEx(domain, READ, &page, &taken, NULL, NULL, &out), DMA_IOMMU_NT_IN_USE);
	SUCCEEDS(v3->CreateDomainEx(DomainTypeUnmanaged, NO_FLAGS, NULL, NULL, &callers));
	REFUSES(v3->MapLogicalRangeEx(callers, READ, &page, &free, NULL, NULL, &out), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	return true;
}

bool case_map_logical_range_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	uint8_t *pages = use_pages(fixture, 3);
	PFN_NUMBER frames[2];
	MDL mdl = { .ByteCount = SMALL_PAGE, .Pages = frames };
	IOMMU_MAP_PHYSICAL_ADDRESS map[3];
	struct setting setting;

	TRY(pages && use_setting(fixture, &setting));
	list_frames(fixture, pages, 2, frames);
	map[0] = (IOMMU_MAP_PHYSICAL_ADDRESS){ .MapType = MapPhysicalAddressTypeMdl, .Mdl.Mdl = &mdl };
	map[1] = (IOMMU_MAP_PHYSICAL_ADDRESS){ .MapType = MapPhysicalAddressTypePfn,
					       .PfnArray = { .PageFrame = &frames[1], .NumberOfPages = 1 } };
	map[2] = range_of(fixture, pages + 2 * SMALL_PAGE, SMALL_PAGE);
	for (size_t i = 0; i < 3; i++) {
		IOMMU_DMA_LOGICAL_ADDRESS wanted = OTHER_IOVA + 16 * i * SMALL_PAGE, out = 0;

		SUCCEEDS(v3->MapLogicalRangeEx(setting.domain, READ_WRITE, &map[i], &wanted, NULL, NULL, &out));
		if (out != wanted)
			return failed("expected logical address 0x%llx, seen 0x%llx", printable(wanted), printable(out));
		TRY(moves(setting.device, setting.source, (struct place){ out, pages + i * SMALL_PAGE },
			  EDU_BUFFER_SIZE));
	}
	TRY(map_refusals(fixture, setting.domain, pages));
	SUCCEEDS(v3->UnmapLogicalRange(setting.domain, OTHER_IOVA, 1));
	TRY(write_refused(fixture, setting.device, (struct place){ OTHER_IOVA, pages },
			  fault_in(&setting, TranslationFault)));
	TRY(setting_works(&setting));
	detail("an MDL, a list of page frames and a contiguous range, each at the address asked for");
	return true;
}

bool case_map_identity_range_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	uint8_t *pages = use_pages(fixture, 2);
	IOMMU_MAP_PHYSICAL_ADDRESS map, half;
	struct setting setting;
	PIOMMU_DMA_DOMAIN other;

	TRY(pages && use_setting(fixture, &setting));
	map = range_of(fixture, pages, SMALL_PAGE);
	half = range_of(fixture, pages, SMALL_PAGE / 2);
	SUCCEEDS(v3->MapIdentityRangeEx(setting.domain, READ_WRITE, &map));
	TRY(moves(setting.device, setting.source, (struct place){ map.ContiguousRange.Base, pages }, EDU_BUFFER_SIZE));
	TRY(write_refused(fixture, setting.device,
			  (struct place){ map.ContiguousRange.Base + SMALL_PAGE, pages + SMALL_PAGE },
			  fault_in(&setting, TranslationFault)));
	REFUSES(v3->MapIdentityRangeEx(setting.domain, READ_WRITE, &map), DMA_IOMMU_NT_IN_USE);
	REFUSES(v3->MapIdentityRangeEx(setting.domain, READ_WRITE, &half), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	SUCCEEDS(v3->CreateDomainEx(DomainTypeUnmanaged, NO_FLAGS, NULL, NULL, &other));
	REFUSES(v3->MapIdentityRangeEx(other, READ_WRITE, &map), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v3->CreateDomainEx(DomainTypePassThrough, NO_FLAGS, NULL, NULL, &other));
	SUCCEEDS(v3->MapIdentityRangeEx(other, READ_WRITE, &map));
	detail("a page at its physical address 0x%llx, and not the one behind it", printable(map.ContiguousRange.Base));
	return true;
}

bool case_unmap_identity_range_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	uint8_t *pages = use_pages(fixture, 2);
	IOMMU_MAP_PHYSICAL_ADDRESS map, first, half;
	struct place place[2];
	struct setting setting;

	TRY(pages && use_setting(fixture, &setting));
	map = range_of(fixture, pages, 2 * SMALL_PAGE);
	first = range_of(fixture, pages, SMALL_PAGE);
	half = range_of(fixture, pages, SMALL_PAGE / 2);
	SUCCEEDS(v3->MapIdentityRangeEx(setting.domain, READ_WRITE, &map));
	for (size_t i = 0; i < 2; i++) {
		place[i] = (struct place){ map.ContiguousRange.Base + i * SMALL_PAGE, pages + i * SMALL_PAGE };
		TRY(moves(setting.device, setting.source, place[i], EDU_BUFFER_SIZE));
	}
	REFUSES(v3->UnmapIdentityRangeEx(setting.domain, &half), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	SUCCEEDS(v3->UnmapIdentityRangeEx(setting.domain, &first));
	TRY(write_refused(fixture, setting.device, place[0], fault_in(&setting, TranslationFault)));
	TRY(moves(setting.device, setting.source, place[1], EDU_BUFFER_SIZE));
	REFUSES(v3->UnmapIdentityRangeEx(setting.domain, &map), DMA_IOMMU_NT_NOT_FOUND);
	TRY(moves(setting.device, setting.source, place[1], EDU_BUFFER_SIZE));
	detail("one of two cached pages refused at once, the other left alone");
	return true;
}

/* Maps the page in a domain with an allocator: a lowest and a highest address, both 0 where there is none. */
static NTSTATUS map_chosen(struct fixture *fixture, PIOMMU_DMA_DOMAIN domain, IOMMU_MAP_PHYSICAL_ADDRESS *map,
			   uint64_t min, uint64_t max, uint64_t *out)
{
	return fixture->v3.MapLogicalRangeEx(domain, READ_WRITE, map, NULL, min ? &min : NULL, max ? &max : NULL, out);
}

bool case_buddy_allocator(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG config = { .LogicalAllocatorType = IommuDmaLogicalAllocatorBuddy,
						      .BuddyAllocatorConfig.AddressWidth = 32 };
	struct device *device = use_edu(fixture);
	uint8_t *source = use_pages(fixture, 1), *pages = use_pages(fixture, 3);
	const uint64_t min = 0x40000000, max = 0x40003fff;
	IOMMU_MAP_PHYSICAL_ADDRESS read, three;
	uint64_t explicit = 0x1000, first, block, windowed, none, again;
	PIOMMU_DMA_DOMAIN domain;

	TRY(device && source && pages);
	read = range_of(fixture, source, SMALL_PAGE);
	three = range_of(fixture, pages, 3 * SMALL_PAGE);
	SUCCEEDS(v3->CreateDomainEx(DomainTypeTranslate, NO_FLAGS, &config, NULL, &domain));
	SUCCEEDS(fixture->v1.AttachDevice(domain, device->object, 0, 1));
	TRY(report_faults(fixture, device));
	SUCCEEDS(map_chosen(fixture, domain, &read, 0, 0, &first));
	SUCCEEDS(map_chosen(fixture, domain, &three, 0, 0, &block));
	SUCCEEDS(map_chosen(fixture, domain, &three, min, max, &windowed));
	if (block % (4 * SMALL_PAGE) != 0 || block >= 0x100000)
		return failed("expected 3 pages low and on a border of 4, seen 0x%llx", printable(block));
	if (windowed < min || windowed + 3 * SMALL_PAGE - 1 > max)
		return failed("expected 3 pages between 0x%llx and 0x%llx, seen 0x%llx", printable(min), printable(max),
			      printable(windowed));
	/* Two mappings of the same memory: both lead there, to every page. */
	for (size_t i = 0; i < 3; i++) {
		TRY(moves(device, (struct place){ first, source },
			  (struct place){ block + i * SMALL_PAGE, pages + i * SMALL_PAGE }, EDU_BUFFER_SIZE));
		TRY(moves(device, (struct place){ first, source },
			  (struct place){ windowed + i * SMALL_PAGE, pages + i * SMALL_PAGE }, EDU_BUFFER_SIZE));
	}
	REFUSES(map_chosen(fixture, domain, &three, min, max, &none), DMA_IOMMU_NT_INVALID_PARAMETER_MIX);
	REFUSES(map_chosen(fixture, domain, &three, max, min, &none), DMA_IOMMU_NT_INVALID_PARAMETER_MIX);
	REFUSES(v3->MapLogicalRangeEx(domain, READ, &read, &explicit, NULL, NULL, &none), DMA_IOMMU_NT_NOT_SUPPORTED);
	REFUSES(v3->MapIdentityRangeEx(domain, READ, &read), DMA_IOMMU_NT_NOT_SUPPORTED);
	SUCCEEDS(v3->UnmapLogicalRange(domain, block, 3));
	TRY(write_refused(fixture, device, (struct place){ block, pages },
			  (struct wanted_fault){ TranslationFault, dma_iommu_domain_number(domain), -1 }));
	SUCCEEDS(map_chosen(fixture, domain, &three, 0, 0, &again));
	if (again != block)
		return failed("expected the freed block 0x%llx again, seen 0x%llx", printable(block), printable(again));
	detail("low blocks 0x%llx and 0x%llx, 0x%llx within its window; no explicit and no identity addresses",
	       printable(first), printable(block), printable(windowed));
	return true;
}
