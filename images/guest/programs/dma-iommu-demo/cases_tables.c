/* Domains that walk page tables which this program builds. */
#include "dma_iommu_cases/callers.h"
#include "cases.h"

static unsigned long long printable(uint64_t value)
{
	return value;
}

bool case_configure_domain(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct device *device = use_edu(fixture);
	struct place source = { SOURCE_IOVA, use_pages(fixture, 1) }, target = { TARGET_IOVA, use_pages(fixture, 1) };
	DOMAIN_CONFIGURATION bypass = { .Type = DomainConfigurationArm64 }, bad = bypass;
	struct wanted_fault blocked = { .type = UnsupportedUpstreamTransaction, .pasid = -1 };
	PIOMMU_DMA_DOMAIN domain, ours;
	struct tables tables;

	TRY(device && source.memory && target.memory && arm64_tables(&tables, &fixture->arena, 12, 48));
	TRY(tables_map(&tables, source.iova, physical_of(fixture, source.memory), 1, READ) &&
	    tables_map(&tables, target.iova, physical_of(fixture, target.memory), 1, READ_WRITE));
	SUCCEEDS(v1->CreateDomain(0, &domain));
	SUCCEEDS(v1->CreateDomain(1, &ours));
	SUCCEEDS(v1->AttachDevice(domain, device->object, 0, 1));
	TRY(report_faults(fixture, device));
	blocked.domain = dma_iommu_domain_number(domain);
	TRY(write_refused(fixture, device, target, blocked));

	bad.Arm64.TranslationEnabled = 1;
	bad.Arm64.Ttbr0 = arena_physical(tables.arena, tables.root) + 8;
	bad.Arm64.InputSize0 = 48;
	REFUSES(v1->ConfigureDomain(domain, &bad), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v1->ConfigureDomain(ours, &bad), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	TRY(write_refused(fixture, device, target, blocked));

	SUCCEEDS(configure(fixture, domain, &tables, 48));
	TRY(moves(device, source, target, EDU_BUFFER_SIZE));
	TRY(write_refused(fixture, device, source,
			  (struct wanted_fault){ PermissionFault, blocked.domain, -1 }));

	/* Without translation physical addresses go through, and others lead nowhere. */
	SUCCEEDS(v1->ConfigureDomain(domain, &bypass));
	source.iova = physical_of(fixture, source.memory);
	target.iova = physical_of(fixture, target.memory);
	TRY(moves(device, source, target, EDU_BUFFER_SIZE));
	TRY(probe_finds(fixture, device, source.iova, source.memory, DMA_IOMMU_PROBE_SOURCE_BYPASS, false));
	detail("blocked until configured, then through the caller's tables, then past them with translation disabled");
	return true;
}

/* DMA at both ends of a page that may be large; the probe must name its level and its size. */
static bool check_page(struct fixture *fixture, const struct setting *setting, const struct tables *tables,
		       struct place page, unsigned level)
{
	const unsigned shift = tables_shift(tables, level);
	const uint64_t offsets[] = { 0, (1ull << shift) - SMALL_PAGE };
	struct dma_iommu_probe probe;

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct place at = { page.iova + offsets[i], page.memory + offsets[i] };
		uint64_t physical = physical_of(fixture, at.memory);

		TRY(moves(setting->device, setting->source, at, EDU_BUFFER_SIZE));
		TRY(dma_iommu_probe(setting->device->object, -1, at.iova, WRITE, &probe));
		if (!probe.translated || probe.physical != physical || probe.level != level || probe.shift != shift)
			return failed("probe of 0x%llx: expected 0x%llx on level %u, shift %u; seen translated %d, "
				      "0x%llx on level %u, shift %u",
				      printable(at.iova), printable(physical), level, shift, probe.translated,
				      printable(probe.physical), probe.level, probe.shift);
	}
	return true;
}

/* A device in a domain that walks these tables, with a page of the smallest size to read and one to write. */
static bool use_tables(struct fixture *fixture, struct setting *setting, struct tables *tables, unsigned input_bits)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	size_t granule = (size_t)1 << tables->granule_shift;

	setting->device = use_edu(fixture);
	/* Addresses with something in every level's index. */
	setting->source = (struct place){ SOURCE_IOVA + 5 * granule, arena_allocate(&fixture->arena, granule, granule) };
	setting->target = (struct place){ TARGET_IOVA + 7 * granule, arena_allocate(&fixture->arena, granule, granule) };
	TRY(setting->device && setting->source.memory && setting->target.memory);
	TRY(tables_map(tables, setting->source.iova, physical_of(fixture, setting->source.memory), 1, READ));
	TRY(tables_map(tables, setting->target.iova, physical_of(fixture, setting->target.memory), 1, READ_WRITE));
	SUCCEEDS(v1->CreateDomain(0, &setting->domain));
	SUCCEEDS(v1->AttachDevice(setting->domain, setting->device->object, 0, 1));
	TRY(report_faults(fixture, setting->device));
	SUCCEEDS(configure(fixture, setting->domain, tables, input_bits));
	return true;
}

/* What may be written, what may only be read, and what is not there. */
static bool check_small_pages(struct fixture *fixture, const struct setting *setting, const struct tables *tables)
{
	struct place none = { setting->target.iova + (1ull << tables->granule_shift), setting->target.memory };

	return check_page(fixture, setting, tables, setting->target, 1) &&
	       write_refused(fixture, setting->device, setting->source, fault_in(setting, PermissionFault)) &&
	       write_refused(fixture, setting->device, none, fault_in(setting, TranslationFault));
}

static bool check_large_page(struct fixture *fixture, const struct setting *setting, struct tables *tables)
{
	struct place large = { OTHER_IOVA, use_large_page(fixture) };

	return large.memory && tables_map(tables, large.iova, physical_of(fixture, large.memory), 2, READ_WRITE) &&
	       check_page(fixture, setting, tables, large, 2);
}

static bool x64_pages(struct fixture *fixture, unsigned levels)
{
	struct setting setting;
	struct tables tables;
	uint64_t *source, *target;

	TRY(x64_tables(&tables, &fixture->arena, levels));
	if (windows_compat()) {
		PIOMMU_DMA_DOMAIN domain;

		SUCCEEDS(fixture->v1.CreateDomain(0, &domain));
		REFUSES(configure(fixture, domain, &tables, 0), DMA_IOMMU_NT_NOT_SUPPORTED);
		detail("STATUS_NOT_SUPPORTED, as Windows documents");
		return true;
	}
	TRY(use_tables(fixture, &setting, &tables, 0));
	TRY(check_small_pages(fixture, &setting, &tables) && check_large_page(fixture, &setting, &tables));
	source = tables_entry(&tables, setting.source.iova, 1);
	target = tables_entry(&tables, setting.target.iova, 1);
	if ((*source & (X64_ACCESSED | X64_DIRTY)) != X64_ACCESSED || !(*target & X64_ACCESSED) ||
	    !(*target & X64_DIRTY))
		return failed("expected accessed, and dirty where it was written; seen entries 0x%llx (read) and "
			      "0x%llx (written)",
			      printable(*source), printable(*target));
	detail("%u levels, pages of 4 KiB and 2 MiB, read-only and unmapped ones refused, accessed and dirty bits set",
	       levels);
	return true;
}

bool case_tables_x64(struct fixture *fixture)
{
	return x64_pages(fixture, 4);
}

bool case_tables_x64_5_levels(struct fixture *fixture)
{
	return x64_pages(fixture, 5);
}

/* An entry without the access flag maps nothing yet. */
static bool check_access_flag(struct fixture *fixture, const struct setting *setting, struct tables *tables)
{
	struct place place = { OTHER_IOVA + 2 * LARGE_PAGE, setting->target.memory };
	uint64_t *entry;

	TRY(tables_map(tables, place.iova, physical_of(fixture, place.memory), 1, READ_WRITE));
	entry = tables_entry(tables, place.iova, 1);
	*entry &= ~ARM64_ACCESS_FLAG;
	return write_refused(fixture, setting->device, place, fault_in(setting, AccessFlagFault));
}

static bool arm64_pages(struct fixture *fixture, unsigned granule_shift)
{
	struct setting setting;
	struct tables tables;

	TRY(arm64_tables(&tables, &fixture->arena, granule_shift, 48));
	if (windows_compat() && granule_shift != 12) {
		PIOMMU_DMA_DOMAIN domain;

		SUCCEEDS(fixture->v1.CreateDomain(0, &domain));
		REFUSES(configure(fixture, domain, &tables, 48), DMA_IOMMU_NT_INVALID_PARAMETER_2);
		detail("STATUS_INVALID_PARAMETER_2: wdm.h has no granule to choose");
		return true;
	}
	TRY(use_tables(fixture, &setting, &tables, 48));
	TRY(check_small_pages(fixture, &setting, &tables) && check_access_flag(fixture, &setting, &tables));
	if (granule_shift == 12)
		TRY(check_large_page(fixture, &setting, &tables));
	detail("%u levels, pages of %u KiB%s; read-only, unmapped and never-accessed ones refused", tables.levels,
	       1u << (granule_shift - 10), granule_shift == 12 ? " and 2 MiB" : "");
	return true;
}

bool case_tables_arm64_4k(struct fixture *fixture)
{
	return arm64_pages(fixture, 12);
}

bool case_tables_arm64_16k(struct fixture *fixture)
{
	return arm64_pages(fixture, 14);
}

bool case_tables_arm64_64k(struct fixture *fixture)
{
	return arm64_pages(fixture, 16);
}

bool case_tables_arm64_ttbr1(struct fixture *fixture)
{
	const unsigned bits = 39;
	/* Each table translates one end of the address space, 39 bits of it: bits 63 to 39 all zero, or all one. */
	const uint64_t low_end = 0x5000000000ull, high_end = 0xffffff9000000000ull;
	struct device *device = use_edu(fixture);
	uint8_t *pages = use_pages(fixture, 3);
	struct place source = { low_end, pages }, target = { high_end, pages + SMALL_PAGE };
	struct place between = { 1ull << bits, pages + 2 * SMALL_PAGE };
	DOMAIN_CONFIGURATION configuration = { .Type = DomainConfigurationArm64 };
	DOMAIN_CONFIGURATION_ARM64 *arm64 = &configuration.Arm64;
	struct tables low, high;
	PIOMMU_DMA_DOMAIN domain;

	TRY(device && pages);
	TRY(arm64_tables(&low, &fixture->arena, 12, bits) && arm64_tables(&high, &fixture->arena, 12, bits));
	TRY(tables_map(&low, source.iova, physical_of(fixture, source.memory), 1, READ) &&
	    tables_map(&high, target.iova, physical_of(fixture, target.memory), 1, READ_WRITE));
	SUCCEEDS(fixture->v1.CreateDomain(0, &domain));
	SUCCEEDS(fixture->v1.AttachDevice(domain, device->object, 0, 1));
	TRY(report_faults(fixture, device));
	arm64->Ttbr0 = arena_physical(low.arena, low.root);
	arm64->Ttbr1 = arena_physical(high.arena, high.root);
	arm64->InputSize0 = arm64->InputSize1 = (UCHAR)bits;
	arm64->CoherentTableWalks = arm64->TranslationEnabled = 1;
	SUCCEEDS(fixture->v1.ConfigureDomain(domain, &configuration));
	TRY(moves(device, source, target, EDU_BUFFER_SIZE));
	TRY(write_refused(fixture, device, between,
			  (struct wanted_fault){ TranslationFault, dma_iommu_domain_number(domain), -1 }));
	detail("%u levels each: 0x%llx through TTBR0, 0x%llx through TTBR1, nothing in between", low.levels,
	       printable(low_end), printable(high_end));
	return true;
}
