/* Mappings that are made or undone wrongly. */
#include "cases.h"

bool case_correct(struct fixture *fixture)
{
	struct place other = { OTHER_IOVA, use_pages(fixture, 1) };
	struct setting setting;

	TRY(other.memory && use_setting(fixture, &setting) && setting_works(&setting));
	for (int i = 0; i < 2; i++) {
		TRY(map_page(fixture, setting.domain, other, READ_WRITE));
		TRY(moves(setting.device, setting.source, other, EDU_BUFFER_SIZE));
		SUCCEEDS(fixture->v1.UnmapLogicalRange(setting.domain, other.iova, 1));
	}
	TRY(setting_works(&setting) && no_fault());
	detail("mapped, used and unmapped, twice at 0x%llx: nothing to complain about", printable(other.iova));
	return leave_setting(fixture, &setting);
}

bool case_overlapping_map(struct fixture *fixture)
{
	struct setting setting;
	PFN_NUMBER frames[2];
	uint8_t *pages = use_pages(fixture, 2);
	MDL mdl = { .ByteCount = sizeof(frames) / sizeof(frames[0]) * SMALL_PAGE, .Pages = frames };
	uint64_t start;

	TRY(pages && use_setting(fixture, &setting) && setting_works(&setting));
	list_frames(fixture, pages, 2, frames);
	start = setting.target.iova - SMALL_PAGE;
	REFUSES(fixture->v1.MapLogicalRange(setting.domain, READ_WRITE, &mdl, start), DMA_IOMMU_NT_IN_USE);
	TRY(setting_works(&setting));
	fact_access(&setting, start);
	detail("two pages at 0x%llx over one that is mapped: refused", printable(start));
	return leave_setting(fixture, &setting);
}

bool case_double_unmap(struct fixture *fixture)
{
	struct place other = { OTHER_IOVA, use_pages(fixture, 1) };
	struct setting setting;

	TRY(other.memory && use_setting(fixture, &setting) && map_page(fixture, setting.domain, other, READ_WRITE));
	TRY(moves(setting.device, setting.source, other, EDU_BUFFER_SIZE));
	SUCCEEDS(fixture->v1.UnmapLogicalRange(setting.domain, other.iova, 1));
	REFUSES(fixture->v1.UnmapLogicalRange(setting.domain, other.iova, 1), DMA_IOMMU_NT_NOT_FOUND);
	fact_access(&setting, other.iova);
	detail("0x%llx unmapped a second time: refused", printable(other.iova));
	return leave_setting(fixture, &setting);
}

bool case_mismatched_unmap(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	REFUSES(fixture->v1.UnmapLogicalRange(setting.domain, setting.target.iova, 2), DMA_IOMMU_NT_NOT_FOUND);
	TRY(setting_works(&setting));
	fact_access(&setting, setting.target.iova);
	detail("two pages unmapped at 0x%llx where one is mapped: refused", printable(setting.target.iova));
	return leave_setting(fixture, &setting);
}

bool case_mapping_leak(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	fact_access(&setting, setting.target.iova);
	detail("domain %u deleted with two pages mapped", dma_iommu_domain_number(setting.domain));
	return leave_domain(fixture, &setting);
}
