#include "dma_iommu/operations.h"

#include <stdlib.h>

/* What callers see of a token, and how the function knows it. */
struct token {
	IOMMU_DMA_LOGICAL_ADDRESS_TOKEN told;
	uint32_t number;
};

static uint32_t token_number(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN token)
{
	/* The first member is what callers have. */
	return ((struct token *)token)->number;
}

NTSTATUS IommuReserveLogicalAddressRange(PIOMMU_DMA_DOMAIN Domain, SIZE_T Size,
					 PIOMMU_DMA_LOGICAL_ADDRESS ExplicitLogicalAddress,
					 PIOMMU_DMA_LOGICAL_ADDRESS MinLogicalAddress,
					 PIOMMU_DMA_LOGICAL_ADDRESS MaxLogicalAddress,
					 PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN *LogicalAddressToken)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_RESERVE_LOGICAL_ADDRESS_RANGE,
		.args.reserve_logical_address_range = {
			.domain = number_of(Domain),
			.size = Size,
			.present = (ExplicitLogicalAddress ? DMA_IOMMU_PRESENT_EXPLICIT : 0) |
				   (MinLogicalAddress ? DMA_IOMMU_PRESENT_MINIMUM : 0) |
				   (MaxLogicalAddress ? DMA_IOMMU_PRESENT_MAXIMUM : 0),
			.explicit_logical_address = ExplicitLogicalAddress ? *ExplicitLogicalAddress : 0,
			.min_logical_address = MinLogicalAddress ? *MinLogicalAddress : 0,
			.max_logical_address = MaxLogicalAddress ? *MaxLogicalAddress : 0,
		},
	};
	const struct dma_iommu_reserve_logical_address_range_result *result;
	struct dma_iommu_completion completion;
	struct token *token = malloc(sizeof(*token));
	NTSTATUS status;

	if (!token)
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	status = dma_iommu_run(&command, &completion);
	if (!NT_SUCCESS(status)) {
		free(token);
		return status;
	}
	result = &completion.result.reserve_logical_address_range;
	token->told.LogicalAddressBase = result->logical_address_base;
	token->told.Size = result->size;
	token->number = result->token;
	*LogicalAddressToken = &token->told;
	return status;
}

NTSTATUS IommuFreeReservedLogicalAddressRange(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN LogicalAddressToken)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_FREE_RESERVED_LOGICAL_ADDRESS_RANGE,
		.args.free_reserved_logical_address_range.token = token_number(LogicalAddressToken),
	};
	NTSTATUS status = run_plain(&command);

	if (NT_SUCCESS(status))
		free(LogicalAddressToken);
	return status;
}

NTSTATUS IommuMapReservedLogicalRange(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN LogicalAddressToken, SIZE_T Offset,
				      ULONG Permissions, PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap,
				      PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT MappedSegment)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_MAP_RESERVED_LOGICAL_RANGE,
		.args.map_reserved_logical_range = {
			.token = token_number(LogicalAddressToken),
			.permissions = Permissions,
			.offset = Offset,
		},
	};
	const struct dma_iommu_map_reserved_logical_range_result *result;
	struct dma_iommu_completion completion;
	NTSTATUS status;

	if (!describe_memory(PhysicalAddressToMap, &command.args.map_reserved_logical_range.memory))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	status = dma_iommu_run(&command, &completion);
	if (!NT_SUCCESS(status))
		return status;
	result = &completion.result.map_reserved_logical_range;
	MappedSegment->OwningToken = LogicalAddressToken;
	MappedSegment->Offset = result->offset;
	MappedSegment->Size = result->size;
	MappedSegment->Handle = result->segment;
	return status;
}

NTSTATUS IommuUnmapReservedLogicalRange(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT MappedSegment)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_UNMAP_RESERVED_LOGICAL_RANGE,
		.args.unmap_reserved_logical_range.segment = MappedSegment->Handle,
	};

	return run_plain(&command);
}
