/* What stays in the IOTLB until it is flushed, and what goes with a flush. */
#include "dma_iommu_cases/callers.h"
#include "cases.h"

/* The probe says that the address still leads there although the tables say otherwise, and so does the device. */
static bool still_hits(struct fixture *fixture, const struct setting *setting)
{
	return probe_finds(fixture, setting->device, setting->target.iova, setting->target.memory,
			   DMA_IOMMU_PROBE_SOURCE_TLB, true) &&
	       setting_works(setting);
}

static bool faults_now(struct fixture *fixture, const struct setting *setting)
{
	return probe_refuses(setting->device, setting->target.iova, WRITE, TranslationFault) &&
	       write_refused(fixture, setting->device, setting->target, fault_in(setting, TranslationFault));
}

bool case_flush_domain(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct callers first, second;
	PIOMMU_DMA_DOMAIN ours;

	if (fixture->edus->count < 2)
		return skipped(fixture, "the case needs two devices");
	TRY(use_callers(fixture, &first) && use_callers(fixture, &second));
	TRY(setting_works(&first.setting) && setting_works(&second.setting));
	TRY(clear_entry(&first.tables, TARGET_IOVA, 1) && clear_entry(&second.tables, TARGET_IOVA, 1));
	TRY(still_hits(fixture, &first.setting) && still_hits(fixture, &second.setting));
	SUCCEEDS(v1->FlushDomain(first.setting.domain));
	TRY(faults_now(fixture, &first.setting));
	/* Only that domain's. */
	TRY(still_hits(fixture, &second.setting));
	SUCCEEDS(v1->FlushDomain(second.setting.domain));
	TRY(faults_now(fixture, &second.setting));
	SUCCEEDS(v1->CreateDomain(1, &ours));
	REFUSES(v1->FlushDomain(ours), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	detail("cleared entries went on working, and the probe said stale; the flush ended it, in its domain only");
	return true;
}

/* Clears the entry above the last for the target's address, and puts it back. */
static bool walk_cache(struct fixture *fixture, struct callers *callers)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct setting *setting = &callers->setting;
	uint64_t iova = setting->target.iova;

	TRY(setting_works(setting) && clear_entry(&callers->tables, iova, 2));
	/* The leaf goes, the pointer to its table may stay: and it does, as in hardware. */
	SUCCEEDS(v1->FlushDomainByVaList(setting->domain, 1, 1, &iova));
	TRY(probe_finds(fixture, setting->device, iova, setting->target.memory, DMA_IOMMU_PROBE_SOURCE_WALK, true));
	TRY(setting_works(setting));
	SUCCEEDS(v1->FlushDomainByVaList(setting->domain, 0, 1, &iova));
	return faults_now(fixture, setting);
}

bool case_flush_domain_by_va_list(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct callers callers;
	struct setting *setting = &callers.setting;
	struct place kept = { OTHER_IOVA, use_pages(fixture, 1) };
	uint64_t list[] = { TARGET_IOVA, TARGET_IOVA + SMALL_PAGE };
	PIOMMU_DMA_DOMAIN ours;

	TRY(kept.memory && use_callers(fixture, &callers));
	TRY(tables_map(&callers.tables, kept.iova, physical_of(fixture, kept.memory), 1, READ_WRITE));
	TRY(setting_works(setting) && moves(setting->device, setting->source, kept, EDU_BUFFER_SIZE));
	TRY(clear_entry(&callers.tables, TARGET_IOVA, 1) && clear_entry(&callers.tables, kept.iova, 1));
	TRY(still_hits(fixture, setting));
	SUCCEEDS(v1->FlushDomainByVaList(setting->domain, 1, sizeof(list) / sizeof(list[0]), list));
	TRY(faults_now(fixture, setting));
	/* What the list does not name stays as it was. */
	TRY(probe_finds(fixture, setting->device, kept.iova, kept.memory, DMA_IOMMU_PROBE_SOURCE_TLB, true));
	TRY(moves(setting->device, setting->source, kept, EDU_BUFFER_SIZE));

	TRY(tables_map(&callers.tables, TARGET_IOVA, physical_of(fixture, setting->target.memory), 1, READ_WRITE));
	TRY(walk_cache(fixture, &callers));
	SUCCEEDS(v1->CreateDomain(1, &ours));
	REFUSES(v1->FlushDomainByVaList(ours, 1, 1, list), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	detail("only what is listed; LastLevel keeps cached pointers to tables (stale, said the probe), without it they go");
	return true;
}
