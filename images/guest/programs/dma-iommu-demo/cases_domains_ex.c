/* Domains and what is in them, versions 2 and 3. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#define NO_FLAGS ((IOMMU_DMA_DOMAIN_CREATION_FLAGS){ 0 })
#define HOLE_IOVA 0x120009000000ull

static bool create_refusals(const DMA_IOMMU_INTERFACE_V3 *v3)
{
	IOMMU_DMA_DOMAIN_CREATION_FLAGS flags = { .AsUlonglong = 1 };
	IOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG wide = { .LogicalAllocatorType = IommuDmaLogicalAllocatorBuddy,
						    .BuddyAllocatorConfig.AddressWidth = 64 };
	IOMMU_DMA_RESERVED_REGION unaligned = { .Base = 0x1001, .NumberOfPages = 1 };
	PIOMMU_DMA_DOMAIN domain;

	REFUSES(v3->CreateDomainEx(DomainTypeMax, NO_FLAGS, NULL, NULL, &domain), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	REFUSES(v3->CreateDomainEx(DomainTypeTranslate, flags, NULL, NULL, &domain), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v3->CreateDomainEx(DomainTypeTranslate, NO_FLAGS, &wide, NULL, &domain),
		DMA_IOMMU_NT_INVALID_PARAMETER_3);
	REFUSES(v3->CreateDomainEx(DomainTypeTranslate, NO_FLAGS, NULL, &unaligned, &domain),
		DMA_IOMMU_NT_INVALID_PARAMETER_4);
	return true;
}

bool case_create_domain_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	struct device *device = use_edu(fixture);
	uint8_t *pages = use_pages(fixture, 2), *other = use_pages(fixture, 1);
	IOMMU_DMA_RESERVED_REGION hole = { .Base = HOLE_IOVA, .NumberOfPages = 4 }, mapped = { .RegionNext = &hole };
	IOMMU_MAP_PHYSICAL_ADDRESS map = { .MapType = MapPhysicalAddressTypeContiguousRange };
	IOMMU_DMA_LOGICAL_ADDRESS in_hole = HOLE_IOVA + SMALL_PAGE, out;
	PIOMMU_DMA_DOMAIN reserved, pass_through;
	struct place source, target;

	TRY(device && pages && other && create_refusals(v3));
	source = (struct place){ physical_of(fixture, pages), pages };
	target = (struct place){ source.iova + SMALL_PAGE, pages + SMALL_PAGE };

	/* One region mapped to itself from birth, one that is never mapped. */
	mapped.Base = source.iova;
	mapped.NumberOfPages = 2;
	mapped.ShouldMap = 1;
	SUCCEEDS(v3->CreateDomainEx(DomainTypeTranslate, NO_FLAGS, NULL, &mapped, &reserved));
	SUCCEEDS(fixture->v1.AttachDevice(reserved, device->object, 0, 1));
	TRY(report_faults(fixture, device));
	TRY(moves(device, source, target, EDU_BUFFER_SIZE));
	map.ContiguousRange.Base = physical_of(fixture, other);
	map.ContiguousRange.Size = SMALL_PAGE;
	REFUSES(v3->MapLogicalRangeEx(reserved, READ_WRITE, &map, &in_hole, NULL, NULL, &out), DMA_IOMMU_NT_IN_USE);
	TRY(write_refused(fixture, device, (struct place){ in_hole, other },
			  (struct wanted_fault){ TranslationFault, dma_iommu_domain_number(reserved), -1 }));
	SUCCEEDS(fixture->v1.DetachDevice(reserved, device->object, 0));

	SUCCEEDS(v3->CreateDomainEx(DomainTypePassThrough, NO_FLAGS, NULL, NULL, &pass_through));
	SUCCEEDS(fixture->v1.AttachDevice(pass_through, device->object, 0, 1));
	TRY(moves(device, source, (struct place){ physical_of(fixture, other), other }, EDU_BUFFER_SIZE));
	TRY(probe_finds(fixture, device, source.iova, source.memory, DMA_IOMMU_PROBE_SOURCE_BYPASS, false));
	detail("a reserved region mapped from birth, another closed for good; physical addresses in a pass-through domain");
	return true;
}

/* A device of version 2 in a new domain of our own tables, with a page to read and one to write. */
static bool use_dma_device(struct fixture *fixture, struct setting *setting, PIOMMU_DMA_DEVICE *dma_device)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;

	setting->device = use_edu(fixture);
	setting->source = (struct place){ SOURCE_IOVA, use_pages(fixture, 1) };
	setting->target = (struct place){ TARGET_IOVA, use_pages(fixture, 1) };
	TRY(setting->device && setting->source.memory && setting->target.memory);
	SUCCEEDS(v3->CreateDomainEx(DomainTypeTranslate, NO_FLAGS, NULL, NULL, &setting->domain));
	SUCCEEDS(v3->CreateDevice(setting->device->object, NULL, dma_device));
	return map_page(fixture, setting->domain, setting->source, READ) &&
	       map_page(fixture, setting->domain, setting->target, READ_WRITE);
}

bool case_attach_device_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	PIOMMU_DMA_DEVICE dma_device;
	PIOMMU_DMA_DOMAIN other;
	struct setting setting;

	TRY(use_dma_device(fixture, &setting, &dma_device));
	SUCCEEDS(v3->CreateDomainEx(DomainTypePassThrough, NO_FLAGS, NULL, NULL, &other));
	TRY(write_ignored(setting.device, setting.target));
	SUCCEEDS(v3->AttachDeviceEx(setting.domain, dma_device));
	TRY(setting_works(&setting));
	REFUSES(v3->AttachDeviceEx(other, dma_device), DMA_IOMMU_NT_INVALID_PARAMETER);
	/* The first binding is intact: the physical address still leads nowhere. */
	TRY(setting_works(&setting));
	TRY(write_ignored(setting.device, (struct place){ physical_of(fixture, setting.target.memory),
							  setting.target.memory }));
	detail("working once attached; a second domain refused and the first kept");
	return true;
}

bool case_detach_device_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	PIOMMU_DMA_DEVICE dma_device;
	struct setting setting;

	TRY(use_dma_device(fixture, &setting, &dma_device));
	REFUSES(v3->DetachDeviceEx(dma_device), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v3->AttachDeviceEx(setting.domain, dma_device));
	TRY(setting_works(&setting));
	SUCCEEDS(v3->DetachDeviceEx(dma_device));
	TRY(write_ignored(setting.device, setting.target));
	REFUSES(v3->DetachDeviceEx(dma_device), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v3->DeleteDomain(setting.domain));
	detail("blocked as soon as it was out; refused before it was in and after");
	return true;
}

bool case_create_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DEVICE_CREATION_CONFIGURATION acpi = { .ConfigType = IommuDeviceCreationConfigTypeAcpi };
	PIOMMU_DMA_DEVICE dma_device, second;
	struct setting setting;

	TRY(use_dma_device(fixture, &setting, &dma_device));
	REFUSES(v3->CreateDevice(setting.device->object, NULL, &second), DMA_IOMMU_NT_RESOURCE_IN_USE);
	REFUSES(v3->CreateDevice(dma_iommu_device_object("0000:ff:1f.7"), NULL, &second), DMA_IOMMU_NT_NOT_FOUND);
	SUCCEEDS(v3->DeleteDevice(dma_device));
	/* What ACPI enumerates is told which of its ids are meant; a PCI device is not. */
	REFUSES(v3->CreateDevice(setting.device->object, &acpi, &second), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	SUCCEEDS(v3->CreateDevice(setting.device->object, NULL, &dma_device));
	SUCCEEDS(v3->AttachDeviceEx(setting.domain, dma_device));
	TRY(setting_works(&setting));
	detail("%s stands for itself in a domain; no second object, no device that is not there", setting.device->edu.address);
	return true;
}

bool case_delete_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	PIOMMU_DMA_DEVICE dma_device;
	struct setting setting;

	TRY(use_dma_device(fixture, &setting, &dma_device));
	SUCCEEDS(v3->AttachDeviceEx(setting.domain, dma_device));
	REFUSES(v3->DeleteDevice(dma_device), DMA_IOMMU_NT_RESOURCE_IN_USE);
	TRY(setting_works(&setting));
	SUCCEEDS(v3->DetachDeviceEx(dma_device));
	SUCCEEDS(v3->DeleteDevice(dma_device));
	REFUSES(v3->AttachDeviceEx(setting.domain, dma_device), DMA_IOMMU_NT_INVALID_HANDLE);
	TRY(write_ignored(setting.device, setting.target));
	detail("refused while it was in a domain; its number means nothing afterwards");
	return true;
}
