/* Version 3: DMA that carries a PASID. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#define PASID_MAX 0xfffffu

/* A device that tags its DMA, with one PASID device made of it. */
struct tagged {
	struct device *device;
	PIOMMU_DMA_DEVICE dma_device;
	PIOMMU_DMA_PASID_DEVICE pasid_device;
	ULONG pasid;
};

static IOMMU_DEVICE_CREATION_CONFIGURATION tagging(IOMMU_PASID_CONFIGURATION_TYPE type)
{
	return (IOMMU_DEVICE_CREATION_CONFIGURATION){
		.ConfigType = IommuDeviceCreationConfigTypePasid,
		.Pasid.ConfigType = type,
	};
}

static bool use_tagged(struct fixture *fixture, struct tagged *tagged)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DEVICE_CREATION_CONFIGURATION config = tagging(PasidConfigTypePasidTaggedDma);

	tagged->device = use_edu(fixture);
	TRY(tagged->device);
	SUCCEEDS(v3->CreateDevice(tagged->device->object, &config, &tagged->dma_device));
	SUCCEEDS(v3->CreatePasidDevice(tagged->dma_device, &tagged->pasid_device, &tagged->pasid));
	if (tagged->pasid == 0 || tagged->pasid > PASID_MAX)
		return failed("expected a PASID of 20 bits, not 0, seen 0x%x", tagged->pasid);
	return true;
}

/* A domain that PASIDs may use, with a page to read at SOURCE_IOVA and one to write at TARGET_IOVA. */
struct space {
	PIOMMU_DMA_DOMAIN domain;
	struct place source, target;
};

static bool use_space(struct fixture *fixture, struct space *space)
{
	IOMMU_DMA_DOMAIN_CREATION_FLAGS flags = { 0 };

	space->source = (struct place){ SOURCE_IOVA, use_pages(fixture, 1) };
	space->target = (struct place){ TARGET_IOVA, use_pages(fixture, 1) };
	TRY(space->source.memory && space->target.memory);
	SUCCEEDS(fixture->v3.CreateDomainEx(DomainTypeTranslateS1, flags, NULL, NULL, &space->domain));
	return map_page(fixture, space->domain, space->source, READ) &&
	       map_page(fixture, space->domain, space->target, READ_WRITE);
}

bool case_create_pasid_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DEVICE_CREATION_CONFIGURATION config = tagging(PasidConfigTypeDefaultPasidOnly);
	PIOMMU_DMA_PASID_DEVICE second;
	struct space space;
	struct tagged one;
	ULONG pasid;

	TRY(use_tagged(fixture, &one) && use_space(fixture, &space));
	SUCCEEDS(v3->CreatePasidDevice(one.dma_device, &second, &pasid));
	if (pasid == one.pasid)
		return failed("expected two PASIDs, seen 0x%x twice", pasid);
	/* Until it is in a domain, its DMA is blocked. */
	TRY(edu_use_pasid(&one.device->edu, one.pasid));
	TRY(write_ignored(one.device, space.target));
	SUCCEEDS(v3->AttachPasidDevice(space.domain, one.pasid_device));
	TRY(moves(one.device, space.source, space.target, EDU_BUFFER_SIZE));

	SUCCEEDS(v3->DetachPasidDevice(one.pasid_device));
	SUCCEEDS(v3->DeletePasidDevice(one.pasid_device));
	SUCCEEDS(v3->DeletePasidDevice(second));
	SUCCEEDS(v3->DeleteDevice(one.dma_device));
	SUCCEEDS(v3->CreateDevice(one.device->object, &config, &one.dma_device));
	REFUSES(v3->CreatePasidDevice(one.dma_device, &second, &pasid), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	fact_number("pasid", one.pasid);
	detail("PASID 0x%x, blocked until it was in a domain; refused for a device whose DMA is not tagged", one.pasid);
	return true;
}

bool case_delete_pasid_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	struct space space;
	struct tagged one;

	TRY(use_tagged(fixture, &one) && use_space(fixture, &space));
	SUCCEEDS(v3->AttachPasidDevice(space.domain, one.pasid_device));
	TRY(edu_use_pasid(&one.device->edu, one.pasid));
	REFUSES(v3->DeletePasidDevice(one.pasid_device), DMA_IOMMU_NT_RESOURCE_IN_USE);
	TRY(moves(one.device, space.source, space.target, EDU_BUFFER_SIZE));
	REFUSES(v3->DeleteDevice(one.dma_device), DMA_IOMMU_NT_RESOURCE_IN_USE);
	SUCCEEDS(v3->DetachPasidDevice(one.pasid_device));
	SUCCEEDS(v3->DeletePasidDevice(one.pasid_device));
	REFUSES(v3->AttachPasidDevice(space.domain, one.pasid_device), DMA_IOMMU_NT_INVALID_HANDLE);
	TRY(write_ignored(one.device, space.target));
	SUCCEEDS(v3->DeleteDevice(one.dma_device));
	detail("refused while it was in a domain, and kept its device from being deleted; gone afterwards");
	return true;
}

bool case_attach_pasid_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	PIOMMU_DMA_PASID_DEVICE second;
	struct space first_space, second_space, plain;
	IOMMU_DMA_DOMAIN_CREATION_FLAGS flags = { 0 };
	PIOMMU_DMA_DOMAIN translate;
	struct tagged one;
	ULONG pasid;

	TRY(use_tagged(fixture, &one));
	TRY(use_space(fixture, &first_space) && use_space(fixture, &second_space) && use_space(fixture, &plain));
	SUCCEEDS(v3->CreatePasidDevice(one.dma_device, &second, &pasid));
	SUCCEEDS(v3->AttachPasidDevice(first_space.domain, one.pasid_device));
	SUCCEEDS(v3->AttachPasidDevice(second_space.domain, second));
	SUCCEEDS(v3->AttachDeviceEx(plain.domain, one.dma_device));
	TRY(report_faults(fixture, one.device));

	/* The same addresses, three times: with each PASID, and with none. */
	TRY(edu_use_pasid(&one.device->edu, one.pasid));
	TRY(moves(one.device, first_space.source, first_space.target, EDU_BUFFER_SIZE));
	TRY(edu_use_pasid(&one.device->edu, pasid));
	TRY(moves(one.device, second_space.source, second_space.target, EDU_BUFFER_SIZE));
	edu_use_no_pasid(&one.device->edu);
	TRY(moves(one.device, plain.source, plain.target, EDU_BUFFER_SIZE));

	/* A fault says whose it was. */
	TRY(edu_use_pasid(&one.device->edu, pasid));
	TRY(write_refused(fixture, one.device, (struct place){ OTHER_IOVA, second_space.target.memory },
			  (struct wanted_fault){ TranslationFault, dma_iommu_domain_number(second_space.domain),
						 (int32_t)pasid }));

	REFUSES(v3->AttachPasidDevice(second_space.domain, one.pasid_device), DMA_IOMMU_NT_UNSUCCESSFUL);
	SUCCEEDS(v3->DetachPasidDevice(second));
	SUCCEEDS(v3->CreateDomainEx(DomainTypeTranslate, flags, NULL, NULL, &translate));
	REFUSES(v3->AttachPasidDevice(translate, second), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	detail("PASIDs 0x%x and 0x%x and DMA without one: the same addresses, three domains, no crosstalk", one.pasid,
	       pasid);
	return true;
}

bool case_detach_pasid_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	struct space space;
	struct tagged one;

	TRY(use_tagged(fixture, &one) && use_space(fixture, &space));
	REFUSES(v3->DetachPasidDevice(one.pasid_device), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v3->AttachPasidDevice(space.domain, one.pasid_device));
	TRY(edu_use_pasid(&one.device->edu, one.pasid));
	TRY(moves(one.device, space.source, space.target, EDU_BUFFER_SIZE));
	SUCCEEDS(v3->DetachPasidDevice(one.pasid_device));
	TRY(write_ignored(one.device, space.target));
	REFUSES(v3->DetachPasidDevice(one.pasid_device), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v3->DeleteDomain(space.domain));
	detail("blocked as soon as it was out, although its translations were cached");
	return true;
}

bool case_query_device_info(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DEVICE_CREATION_CONFIGURATION config = tagging(PasidConfigTypePasidTaggedDma);
	struct device *device = use_edu(fixture);
	IOMMU_DMA_DEVICE_INFORMATION plain = { 9, 9, 9 }, tagged = { 9, 9, 9 };
	PIOMMU_DMA_DEVICE dma_device;
	ULONG written = 99;

	TRY(device);
	SUCCEEDS(v3->CreateDevice(device->object, NULL, &dma_device));
	REFUSES(v3->QueryDeviceInfo(dma_device, 2, &written, &plain), DMA_IOMMU_NT_BUFFER_TOO_SMALL);
	if (written != 0 || plain.PasidTaggedDmaEnabled != 9)
		return failed("short buffer: expected nothing written, seen %u bytes", written);
	SUCCEEDS(v3->QueryDeviceInfo(dma_device, sizeof(plain), &written, &plain));
	SUCCEEDS(v3->DeleteDevice(dma_device));
	config.Pasid.SuppressPasidFaults = 1;
	SUCCEEDS(v3->CreateDevice(device->object, &config, &dma_device));
	SUCCEEDS(v3->QueryDeviceInfo(dma_device, sizeof(tagged), &written, &tagged));
	if (written != sizeof(tagged) || plain.PasidTaggedDmaEnabled || plain.DefaultPasidEnabled ||
	    plain.PasidFaultsSuppressed || !tagged.PasidTaggedDmaEnabled || !tagged.DefaultPasidEnabled ||
	    !tagged.PasidFaultsSuppressed)
		return failed("expected all clear for a plain device and all set for a tagged one, seen %u%u%u and "
			      "%u%u%u in %u bytes",
			      plain.DefaultPasidEnabled, plain.PasidTaggedDmaEnabled, plain.PasidFaultsSuppressed,
			      tagged.DefaultPasidEnabled, tagged.PasidTaggedDmaEnabled, tagged.PasidFaultsSuppressed,
			      written);
	detail("a plain and a PASID-tagged device told apart in %u bytes; a short buffer was left alone", written);
	return true;
}
