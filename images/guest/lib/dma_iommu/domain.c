#include "dma_iommu/operations.h"

#include <string.h>

static NTSTATUS run_create(struct dma_iommu_command *command, PIOMMU_DMA_DOMAIN *out)
{
	struct dma_iommu_completion completion;
	NTSTATUS status = dma_iommu_run(command, &completion);

	if (NT_SUCCESS(status))
		*out = handle_of(completion.result.create_domain.domain);
	return status;
}

NTSTATUS IommuDomainCreate(BOOLEAN OsManagedPageTable, PIOMMU_DMA_DOMAIN *DomainOut)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_CREATE_DOMAIN,
		.args.create_domain.os_managed_page_table = OsManagedPageTable,
	};

	return run_create(&command, DomainOut);
}

static bool describe_regions(const IOMMU_DMA_RESERVED_REGION *first, struct dma_iommu_create_domain_ex *args)
{
	struct dma_iommu_reserved_region *list;
	uint32_t count = 0;

	for (const IOMMU_DMA_RESERVED_REGION *one = first; one; one = one->RegionNext)
		count++;
	if (count == 0)
		return true;
	list = dma_iommu_scratch(count * sizeof(*list), &args->reserved_regions);
	if (!list)
		return false;
	args->reserved_region_count = count;
	for (const IOMMU_DMA_RESERVED_REGION *one = first; one; one = one->RegionNext, list++) {
		list->base = one->Base;
		list->number_of_pages = one->NumberOfPages;
		list->should_map = one->ShouldMap;
	}
	return true;
}

NTSTATUS IommuDomainCreateEx(IOMMU_DMA_DOMAIN_TYPE DomainType, IOMMU_DMA_DOMAIN_CREATION_FLAGS Flags,
			     PIOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG LogicalAllocatorConfig,
			     PIOMMU_DMA_RESERVED_REGION ReservedRegions, PIOMMU_DMA_DOMAIN *DomainOut)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_CREATE_DOMAIN_EX,
		.args.create_domain_ex = { .domain_type = DomainType, .flags = Flags.AsUlonglong },
	};
	struct dma_iommu_create_domain_ex *args = &command.args.create_domain_ex;

	if (LogicalAllocatorConfig) {
		args->has_allocator = 1;
		args->allocator_type = LogicalAllocatorConfig->LogicalAllocatorType;
		args->address_width = LogicalAllocatorConfig->BuddyAllocatorConfig.AddressWidth;
	}
	if (!describe_regions(ReservedRegions, args))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	return run_create(&command, DomainOut);
}

NTSTATUS IommuDomainDelete(PIOMMU_DMA_DOMAIN Domain)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_DELETE_DOMAIN,
		.args.delete_domain.domain = number_of(Domain),
	};

	return run_plain(&command);
}

NTSTATUS IommuDomainConfigure(PIOMMU_DMA_DOMAIN Domain, PDOMAIN_CONFIGURATION Configuration)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_CONFIGURE_DOMAIN,
		.args.configure_domain = { .domain = number_of(Domain), .arch = Configuration->Type },
	};
	struct dma_iommu_configure_domain *args = &command.args.configure_domain;

	if (Configuration->Type == DomainConfigurationArm64) {
		const DOMAIN_CONFIGURATION_ARM64 *arm64 = &Configuration->Arm64;

		args->u.arm64 = (struct dma_iommu_configure_domain_arm64){
			.ttbr0 = arm64->Ttbr0,
			.ttbr1 = arm64->Ttbr1,
			.mair0 = arm64->Mair0,
			.mair1 = arm64->Mair1,
			.input_size0 = arm64->InputSize0,
			.input_size1 = arm64->InputSize1,
			.coherent_table_walks = arm64->CoherentTableWalks,
			.translation_enabled = arm64->TranslationEnabled,
			.granule = arm64->Granule,
		};
	} else {
		args->u.x64 = (struct dma_iommu_configure_domain_x64){
			.first_level_page_table_root = Configuration->X64.FirstLevelPageTableRoot,
			.translation_enabled = Configuration->X64.TranslationEnabled,
			.levels = Configuration->X64.Levels,
		};
	}
	return run_plain(&command);
}

NTSTATUS IommuFlushDomain(PIOMMU_DMA_DOMAIN Domain)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_FLUSH_DOMAIN,
		.args.flush_domain.domain = number_of(Domain),
	};

	return run_plain(&command);
}

NTSTATUS IommuFlushDomainVaList(PIOMMU_DMA_DOMAIN Domain, BOOLEAN LastLevel, ULONG Number, PVOID VaList)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_FLUSH_DOMAIN_BY_VA_LIST,
		.args.flush_domain_by_va_list = {
			.domain = number_of(Domain),
			.last_level = LastLevel,
			.number = Number,
		},
	};
	size_t size = Number * sizeof(uint64_t);
	void *list = dma_iommu_scratch(size, &command.args.flush_domain_by_va_list.va_list);

	if (!list)
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	memcpy(list, VaList, size);
	return run_plain(&command);
}
