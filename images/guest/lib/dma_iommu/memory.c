#include "dma_iommu/operations.h"

#include "memory/physical.h"

#include <string.h>

static bool list_frames(const PFN_NUMBER *pages, size_t count, struct dma_iommu_memory *memory)
{
	size_t size = count * sizeof(uint64_t);
	void *list = dma_iommu_scratch(size, &memory->address);

	if (!list)
		return false;
	memcpy(list, pages, size);
	return true;
}

bool describe_mdl(const MDL *mdl, struct dma_iommu_memory *memory)
{
	size_t pages = (mdl->ByteOffset + mdl->ByteCount + SMALL_PAGE - 1) / SMALL_PAGE;

	memory->type = DMA_IOMMU_MEMORY_MDL;
	memory->byte_offset = mdl->ByteOffset;
	memory->size = mdl->ByteCount;
	return list_frames(mdl->Pages, pages, memory);
}

bool describe_memory(const IOMMU_MAP_PHYSICAL_ADDRESS *address, struct dma_iommu_memory *memory)
{
	memory->type = address->MapType;
	switch (address->MapType) {
	case MapPhysicalAddressTypeMdl:
		return describe_mdl(address->Mdl.Mdl, memory);
	case MapPhysicalAddressTypePfn:
		memory->size = address->PfnArray.NumberOfPages;
		return list_frames(address->PfnArray.PageFrame, address->PfnArray.NumberOfPages, memory);
	default:
		memory->address = address->ContiguousRange.Base;
		memory->size = address->ContiguousRange.Size;
		return true;
	}
}
