#include "dma_iommu_cases/callers.h"

#define INPUT_BITS 48

NTSTATUS configure(struct fixture *fixture, PIOMMU_DMA_DOMAIN domain, const struct tables *tables, unsigned input_bits)
{
	uint64_t root = arena_physical(tables->arena, tables->root);
	DOMAIN_CONFIGURATION configuration;

	if (tables->format == TABLES_X64)
		configuration = (DOMAIN_CONFIGURATION){
			.Type = DomainConfigurationX64,
			.X64 = { .FirstLevelPageTableRoot = root, .TranslationEnabled = 1, .Levels = tables->levels },
		};
	else
		configuration = (DOMAIN_CONFIGURATION){
			.Type = DomainConfigurationArm64,
			.Arm64 = {
				.Ttbr0 = root,
				.InputSize0 = (UCHAR)input_bits,
				.CoherentTableWalks = 1,
				.TranslationEnabled = 1,
				.Granule = 1u << (tables->granule_shift - 10),
			},
		};
	return fixture->v1.ConfigureDomain(domain, &configuration);
}

bool use_callers(struct fixture *fixture, struct callers *callers)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct setting *setting = &callers->setting;
	struct tables *tables = &callers->tables;

	setting->device = use_edu(fixture);
	setting->source = (struct place){ SOURCE_IOVA, use_pages(fixture, 1) };
	setting->target = (struct place){ TARGET_IOVA, use_pages(fixture, 1) };
	TRY(setting->device && setting->source.memory && setting->target.memory);
	TRY(arm64_tables(tables, &fixture->arena, 12, INPUT_BITS));
	TRY(tables_map(tables, setting->source.iova, physical_of(fixture, setting->source.memory), 1, READ));
	TRY(tables_map(tables, setting->target.iova, physical_of(fixture, setting->target.memory), 1, READ_WRITE));
	SUCCEEDS(v1->CreateDomain(0, &setting->domain));
	SUCCEEDS(v1->AttachDevice(setting->domain, setting->device->object, 0, 1));
	SUCCEEDS(configure(fixture, setting->domain, tables, INPUT_BITS));
	return report_faults(fixture, setting->device);
}

bool clear_entry(struct tables *tables, uint64_t iova, unsigned level)
{
	uint64_t *entry = tables_entry(tables, iova, level);

	if (!entry)
		return false;
	__atomic_store_n(entry, 0, __ATOMIC_RELEASE);
	return true;
}
