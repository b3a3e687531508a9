/* Maps and unmaps of version 1. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#include <string.h>

#define PAGES 5

static unsigned long long printable(uint64_t value)
{
	return value;
}

/* Every second of ten pages, the last first: nothing of the list lies side by side. */
static uint8_t *use_scattered(struct fixture *fixture, PFN_NUMBER frames[PAGES], uint8_t *memory[PAGES])
{
	uint8_t *pool = use_pages(fixture, 2 * PAGES);

	for (size_t i = 0; pool && i < PAGES; i++) {
		memory[i] = pool + 2 * (PAGES - 1 - i) * SMALL_PAGE;
		frames[i] = frame_of(fixture, memory[i]);
	}
	return pool;
}

static bool map_refusals(struct fixture *fixture, const struct setting *setting, const PFN_NUMBER *frames)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	MDL mdl = { .ByteCount = 2 * SMALL_PAGE, .Pages = frames };
	MDL part = { .ByteCount = SMALL_PAGE / 2, .Pages = frames };
	MDL shifted = { .ByteCount = SMALL_PAGE, .ByteOffset = 16, .Pages = frames };
	/* Its second page is the target's. */
	uint64_t overlap = setting->target.iova - SMALL_PAGE;

	REFUSES(v1->MapLogicalRange(setting->domain, READ_WRITE, &mdl, overlap), DMA_IOMMU_NT_IN_USE);
	TRY(probe_refuses(setting->device, overlap, READ, TranslationFault));
	REFUSES(v1->MapLogicalRange(setting->domain, READ, &mdl, 0x1001), DMA_IOMMU_NT_INVALID_PARAMETER_4);
	REFUSES(v1->MapLogicalRange(setting->domain, READ, &part, 0x1000), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	REFUSES(v1->MapLogicalRange(setting->domain, READ, &shifted, 0x1000), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	REFUSES(v1->MapLogicalRange(setting->domain, READ | 4, &mdl, 0x1000), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v1->MapLogicalRange(setting->domain, 0, &mdl, 0x1000), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	return true;
}

bool case_map_logical_range(struct fixture *fixture)
{
	const uint32_t start = 1237, chunk = 3001;
	PFN_NUMBER frames[PAGES];
	uint8_t *memory[PAGES], seen[PAGES * SMALL_PAGE], sent[PAGES * SMALL_PAGE];
	MDL mdl = { .ByteCount = PAGES * SMALL_PAGE, .Pages = frames };
	struct setting setting;
	int transfers = 0;

	TRY(use_setting(fixture, &setting) && use_scattered(fixture, frames, memory));
	SUCCEEDS(fixture->v1.MapLogicalRange(setting.domain, READ_WRITE, &mdl, OTHER_IOVA));
	/* Across page borders, in odd pieces, each with other bytes. */
	fill_byte(sent, sizeof(sent), 0);
	for (uint32_t at = start; at < sizeof(sent); at += chunk, transfers++) {
		uint32_t count = sizeof(sent) - at < chunk ? (uint32_t)sizeof(sent) - at : chunk;

		fill_pattern(setting.source.memory, count, 100 + at);
		fill_pattern(sent + at, count, 100 + at);
		TRY(edu_read(&setting.device->edu, setting.source.iova, 0, count));
		TRY(edu_write(&setting.device->edu, OTHER_IOVA + at, 0, count));
	}
	for (size_t i = 0; i < PAGES; i++)
		memcpy(seen + i * SMALL_PAGE, memory[i], SMALL_PAGE);
	TRY(same_bytes(sent, seen, sizeof(sent), "what was written across scattered pages"));

	/* Read only is read only, also once the translation is cached. */
	TRY(setting_works(&setting));
	TRY(write_refused(fixture, setting.device, setting.source, fault_in(&setting, PermissionFault)));
	TRY(map_refusals(fixture, &setting, frames));
	TRY(setting_works(&setting));
	fact_number("pages", PAGES);
	detail("%zu bytes over %d scattered pages at 0x%llx in %d transfers; read-only kept, overlaps refused whole",
	       sizeof(sent) - start, PAGES, printable(OTHER_IOVA), transfers);
	return true;
}

bool case_unmap_logical_range(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	uint8_t *pages = use_pages(fixture, 3);
	PFN_NUMBER frames[3];
	MDL mdl = { .ByteCount = sizeof(frames) / sizeof(frames[0]) * SMALL_PAGE, .Pages = frames };
	struct place place[3];
	struct setting setting;

	TRY(pages && use_setting(fixture, &setting));
	list_frames(fixture, pages, 3, frames);
	SUCCEEDS(v1->MapLogicalRange(setting.domain, READ_WRITE, &mdl, OTHER_IOVA));
	for (int i = 0; i < 3; i++) {
		place[i] = (struct place){ OTHER_IOVA + (uint64_t)i * SMALL_PAGE, pages + (size_t)i * SMALL_PAGE };
		/* It works, and leaves its translation in the IOTLB. */
		TRY(moves(setting.device, setting.source, place[i], EDU_BUFFER_SIZE));
		TRY(probe_finds(fixture, setting.device, place[i].iova, place[i].memory, DMA_IOMMU_PROBE_SOURCE_TLB,
				false));
	}
	SUCCEEDS(v1->UnmapLogicalRange(setting.domain, place[1].iova, 1));
	TRY(write_refused(fixture, setting.device, place[1], fault_in(&setting, TranslationFault)));
	TRY(read_refused(fixture, setting.device, place[1].iova, setting.target, fault_in(&setting, TranslationFault)));
	TRY(moves(setting.device, setting.source, place[0], EDU_BUFFER_SIZE));
	TRY(moves(setting.device, setting.source, place[2], EDU_BUFFER_SIZE));

	REFUSES(v1->UnmapLogicalRange(setting.domain, place[0].iova, 3), DMA_IOMMU_NT_NOT_FOUND);
	REFUSES(v1->UnmapLogicalRange(setting.domain, place[0].iova + 1, 1), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v1->UnmapLogicalRange(setting.domain, place[0].iova, 0), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	TRY(moves(setting.device, setting.source, place[0], EDU_BUFFER_SIZE));
	SUCCEEDS(v1->UnmapLogicalRange(setting.domain, place[0].iova, 1));
	SUCCEEDS(v1->UnmapLogicalRange(setting.domain, place[2].iova, 1));
	TRY(write_refused(fixture, setting.device, place[2], fault_in(&setting, TranslationFault)));
	detail("the middle of three cached pages refused at once, its neighbours left alone, then all of them");
	return true;
}

bool case_map_identity_range(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	PFN_NUMBER frames[PAGES];
	uint8_t *memory[PAGES];
	MDL mdl = { .ByteCount = PAGES * SMALL_PAGE, .Pages = frames };
	MDL part = { .ByteCount = 100, .Pages = frames };
	struct setting setting;
	struct place between;

	TRY(use_setting(fixture, &setting) && use_scattered(fixture, frames, memory));
	SUCCEEDS(v1->MapIdentityRange(setting.domain, READ_WRITE, &mdl));
	for (int i = 0; i < PAGES; i++)
		TRY(moves(setting.device, setting.source, (struct place){ frames[i] * SMALL_PAGE, memory[i] },
			  EDU_BUFFER_SIZE));
	/* The page behind the second is in nobody's list. */
	between = (struct place){ (frames[1] + 1) * SMALL_PAGE, memory[1] + SMALL_PAGE };
	TRY(write_refused(fixture, setting.device, between, fault_in(&setting, TranslationFault)));
	REFUSES(v1->MapIdentityRange(setting.domain, READ_WRITE, &mdl), DMA_IOMMU_NT_IN_USE);
	REFUSES(v1->MapIdentityRange(setting.domain, READ_WRITE, &part), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	detail("%d scattered pages from 0x%llx on at their physical addresses, and none between them", PAGES,
	       printable(frames[PAGES - 1] * SMALL_PAGE));
	return true;
}

bool case_unmap_identity_range(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	PFN_NUMBER frames[PAGES];
	uint8_t *memory[PAGES];
	MDL mdl = { .ByteCount = PAGES * SMALL_PAGE, .Pages = frames };
	struct setting setting;

	TRY(use_setting(fixture, &setting) && use_scattered(fixture, frames, memory));
	REFUSES(v1->UnmapIdentityRange(setting.domain, &mdl), DMA_IOMMU_NT_NOT_FOUND);
	SUCCEEDS(v1->MapIdentityRange(setting.domain, READ_WRITE, &mdl));
	for (int i = 0; i < PAGES; i++)
		TRY(moves(setting.device, setting.source, (struct place){ frames[i] * SMALL_PAGE, memory[i] },
			  EDU_BUFFER_SIZE));
	SUCCEEDS(v1->UnmapIdentityRange(setting.domain, &mdl));
	for (int i = 0; i < PAGES; i++)
		TRY(write_refused(fixture, setting.device, (struct place){ frames[i] * SMALL_PAGE, memory[i] },
				  fault_in(&setting, TranslationFault)));
	TRY(setting_works(&setting));
	detail("%d cached pages refused at once, other mappings left alone", PAGES);
	return true;
}
