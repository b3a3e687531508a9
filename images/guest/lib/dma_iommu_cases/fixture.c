#include "dma_iommu_cases/fixture.h"

#include "pci/sysfs.h"

#include <stdio.h>
#include <string.h>

static bool get_interfaces(struct fixture *fixture)
{
	DMA_IOMMU_INTERFACE_EX ex;

	SUCCEEDS(IoGetIommuInterfaceEx(DMA_IOMMU_INTERFACE_EX_VERSION_1, 0, &ex));
	fixture->v1 = ex.V1;
	SUCCEEDS(IoGetIommuInterfaceEx(DMA_IOMMU_INTERFACE_EX_VERSION_3, 0, &ex));
	fixture->v3 = ex.V3;
	return true;
}

bool fixture_begin(struct fixture *fixture, const char *iommu, const struct pci_addresses *edus)
{
	memset(fixture, 0, sizeof(*fixture));
	fixture->iommu = iommu;
	fixture->edus = edus;
	return arena_open(&fixture->arena) && dma_iommu_open(iommu) && get_interfaces(fixture);
}

void fixture_end(struct fixture *fixture)
{
	/* Devices first: none may send anything once translation is off. */
	for (size_t i = 0; i < fixture->device_count; i++)
		pci_close(&fixture->devices[i].function);
	dma_iommu_close();
	arena_close(&fixture->arena);
	arena_close(&fixture->large);
}

struct device *use_edu(struct fixture *fixture)
{
	size_t index = fixture->device_count;
	struct device *device = &fixture->devices[index];

	if (index == MAX_EDUS || index == fixture->edus->count) {
		failed("expected an edu device number %zu, seen %zu", index + 1, fixture->edus->count);
		return NULL;
	}
	fixture->device_count++;
	if (!pci_open(&device->function, fixture->edus->list[index]) || !edu_start(&device->edu, &device->function))
		return NULL;
	/* The machine's edu devices are made with all address lines. */
	device->edu.last_iova = UINT64_MAX;
	device->object = dma_iommu_device_object(device->function.address);
	device->requester_id = pci_requester_id(device->function.address);
	return device;
}

uint8_t *use_pages(struct fixture *fixture, size_t count)
{
	return arena_allocate(&fixture->arena, count * SMALL_PAGE, SMALL_PAGE);
}

uint8_t *use_large_page(struct fixture *fixture)
{
	return arena_open(&fixture->large) ? fixture->large.memory : NULL;
}

uint64_t physical_of(struct fixture *fixture, const void *memory)
{
	const uint8_t *large = fixture->large.memory, *at = memory;

	return arena_physical(large && at >= large && at < large + LARGE_PAGE ? &fixture->large : &fixture->arena, at);
}

PFN_NUMBER frame_of(struct fixture *fixture, const void *memory)
{
	return physical_of(fixture, memory) / SMALL_PAGE;
}

void list_frames(struct fixture *fixture, const void *memory, size_t count, PFN_NUMBER *frames)
{
	for (size_t i = 0; i < count; i++)
		frames[i] = frame_of(fixture, memory) + i;
}

bool skipped(struct fixture *fixture, const char *why)
{
	fixture->skip = true;
	return failed("%s", why);
}

bool windows_compat(void)
{
	return dma_iommu_capabilities() & DMA_IOMMU_CAPABILITIES_WINDOWS_COMPAT;
}

bool expect_status(NTSTATUS seen, NTSTATUS wanted, const char *call)
{
	char name[40];

	if (seen == wanted)
		return true;
	/* Where there was no answer, it has been told why. */
	if (seen == DMA_IOMMU_STATUS_NO_ANSWER)
		return false;
	snprintf(name, sizeof(name), "%s", dma_iommu_status_name(wanted));
	return failed("%s: expected %s, seen %s", call, name, dma_iommu_status_name(seen));
}
