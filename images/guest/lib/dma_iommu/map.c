#include "dma_iommu/operations.h"

NTSTATUS IommuMapLogicalRange(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, PMDL Mdl, ULONGLONG LogicalAddress)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_MAP_LOGICAL_RANGE,
		.args.map_logical_range = {
			.domain = number_of(Domain),
			.permissions = Permissions,
			.logical_address = LogicalAddress,
		},
	};

	if (!describe_mdl(Mdl, &command.args.map_logical_range.mdl))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	return run_plain(&command);
}

NTSTATUS IommuMapLogicalRangeEx(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions,
				PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap,
				PIOMMU_DMA_LOGICAL_ADDRESS ExplicitLogicalAddress,
				PIOMMU_DMA_LOGICAL_ADDRESS MinLogicalAddress,
				PIOMMU_DMA_LOGICAL_ADDRESS MaxLogicalAddress,
				PIOMMU_DMA_LOGICAL_ADDRESS LogicalAddressOut)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_MAP_LOGICAL_RANGE_EX,
		.args.map_logical_range_ex = {
			.domain = number_of(Domain),
			.permissions = Permissions,
			.present = (ExplicitLogicalAddress ? DMA_IOMMU_PRESENT_EXPLICIT : 0) |
				   (MinLogicalAddress ? DMA_IOMMU_PRESENT_MINIMUM : 0) |
				   (MaxLogicalAddress ? DMA_IOMMU_PRESENT_MAXIMUM : 0),
			.explicit_logical_address = ExplicitLogicalAddress ? *ExplicitLogicalAddress : 0,
			.min_logical_address = MinLogicalAddress ? *MinLogicalAddress : 0,
			.max_logical_address = MaxLogicalAddress ? *MaxLogicalAddress : 0,
		},
	};
	struct dma_iommu_completion completion;
	NTSTATUS status;

	if (!describe_memory(PhysicalAddressToMap, &command.args.map_logical_range_ex.memory))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	status = dma_iommu_run(&command, &completion);
	if (NT_SUCCESS(status))
		*LogicalAddressOut = completion.result.map_logical_range_ex.logical_address;
	return status;
}

NTSTATUS IommuUnmapLogicalRange(PIOMMU_DMA_DOMAIN Domain, ULONGLONG LogicalAddress, ULONGLONG NumberOfPages)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_UNMAP_LOGICAL_RANGE,
		.args.unmap_logical_range = {
			.domain = number_of(Domain),
			.logical_address = LogicalAddress,
			.number_of_pages = NumberOfPages,
		},
	};

	return run_plain(&command);
}

NTSTATUS IommuMapIdentityRange(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, PMDL Mdl)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_MAP_IDENTITY_RANGE,
		.args.map_identity_range = { .domain = number_of(Domain), .permissions = Permissions },
	};

	if (!describe_mdl(Mdl, &command.args.map_identity_range.mdl))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	return run_plain(&command);
}

NTSTATUS IommuMapIdentityRangeEx(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions,
				 PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_MAP_IDENTITY_RANGE_EX,
		.args.map_identity_range_ex = { .domain = number_of(Domain), .permissions = Permissions },
	};

	if (!describe_memory(PhysicalAddressToMap, &command.args.map_identity_range_ex.memory))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	return run_plain(&command);
}

NTSTATUS IommuUnmapIdentityRange(PIOMMU_DMA_DOMAIN Domain, PMDL Mdl)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_UNMAP_IDENTITY_RANGE,
		.args.unmap_identity_range.domain = number_of(Domain),
	};

	if (!describe_mdl(Mdl, &command.args.unmap_identity_range.mdl))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	return run_plain(&command);
}

NTSTATUS IommuUnmapIdentityRangeEx(PIOMMU_DMA_DOMAIN Domain, PIOMMU_MAP_PHYSICAL_ADDRESS MappedPhysicalAddress)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_UNMAP_IDENTITY_RANGE_EX,
		.args.unmap_identity_range_ex.domain = number_of(Domain),
	};

	if (!describe_memory(MappedPhysicalAddress, &command.args.unmap_identity_range_ex.memory))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	return run_plain(&command);
}
