/* Domains and what is in them, version 1. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#define NO_DEVICE "0000:ff:1f.7"

bool case_create_domain(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct setting managed;
	PIOMMU_DMA_DOMAIN callers;
	DOMAIN_CONFIGURATION configuration = { .Type = DomainConfigurationArm64 };
	PFN_NUMBER frame;
	MDL mdl = { .ByteCount = SMALL_PAGE, .Pages = &frame };

	/* Ours is made, attached and mapped by use_setting(). */
	TRY(use_setting(fixture, &managed));
	SUCCEEDS(v1->CreateDomain(0, &callers));
	if (callers == managed.domain)
		return failed("expected two domains, seen number %u twice", dma_iommu_domain_number(callers));
	TRY(setting_works(&managed));
	TRY(write_refused(fixture, managed.device, (struct place){ OTHER_IOVA, managed.target.memory },
			  fault_in(&managed, TranslationFault)));

	/* Each kind refuses what is the other's. */
	frame = frame_of(fixture, managed.target.memory);
	REFUSES(v1->ConfigureDomain(managed.domain, &configuration), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	REFUSES(v1->MapLogicalRange(callers, READ, &mdl, OTHER_IOVA), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	REFUSES(v1->MapIdentityRange(callers, READ, &mdl), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v1->DeleteDomain(callers));
	detail("domains %u (ours) and %u (the caller's): each refuses the other's operations",
	       dma_iommu_domain_number(managed.domain), dma_iommu_domain_number(callers));
	return true;
}

bool case_delete_domain(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct setting setting;

	TRY(use_setting(fixture, &setting));
	REFUSES(v1->DeleteDomain(setting.domain), DMA_IOMMU_NT_RESOURCE_IN_USE);
	TRY(setting_works(&setting));
	SUCCEEDS(v1->DetachDevice(setting.domain, setting.device->object, 0));
	SUCCEEDS(v1->DeleteDomain(setting.domain));
	TRY(write_ignored(setting.device, setting.target));
	REFUSES(v1->DeleteDomain(setting.domain), DMA_IOMMU_NT_INVALID_HANDLE);
	REFUSES(v1->AttachDevice(setting.domain, setting.device->object, 0, 1), DMA_IOMMU_NT_INVALID_HANDLE);
	detail("refused with a device in it, which went on working; done once that was out; its number means nothing now");
	return true;
}

bool case_attach_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct device *device = use_edu(fixture);
	struct place source = { SOURCE_IOVA, use_pages(fixture, 1) }, target = { TARGET_IOVA, use_pages(fixture, 1) };
	PIOMMU_DMA_DOMAIN domain, other;

	TRY(device && source.memory && target.memory);
	SUCCEEDS(v1->CreateDomain(1, &domain));
	SUCCEEDS(v1->CreateDomain(1, &other));
	TRY(map_page(fixture, domain, source, READ) && map_page(fixture, domain, target, READ_WRITE));

	/* In no domain: neither what is mapped somewhere nor a physical address lets it through. */
	TRY(probe_refuses(device, target.iova, WRITE, UnsupportedUpstreamTransaction));
	TRY(write_ignored(device, target));
	TRY(write_ignored(device, (struct place){ physical_of(fixture, target.memory), target.memory }));

	REFUSES(v1->AttachDevice(domain, device->object, 1, 1), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	REFUSES(v1->AttachDevice(domain, device->object, 0, 2), DMA_IOMMU_NT_INVALID_PARAMETER_4);
	REFUSES(v1->AttachDevice(domain, dma_iommu_device_object(NO_DEVICE), 0, 1), DMA_IOMMU_NT_NOT_FOUND);
	TRY(write_ignored(device, target));

	SUCCEEDS(v1->AttachDevice(domain, device->object, 0, 1));
	TRY(moves(device, source, target, EDU_BUFFER_SIZE));
	REFUSES(v1->AttachDevice(other, device->object, 0, 1), DMA_IOMMU_NT_INVALID_PARAMETER);
	REFUSES(v1->AttachDevice(domain, device->object, 0, 1), DMA_IOMMU_NT_INVALID_PARAMETER);
	TRY(moves(device, source, target, EDU_BUFFER_SIZE));
	detail("%s blocked before, %u bytes at 0x%llx after; a second domain refused and the first kept",
	       device->edu.address, EDU_BUFFER_SIZE, source.iova + 0ull);
	return true;
}

bool case_detach_device(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	PIOMMU_DMA_DOMAIN other;
	struct setting setting;

	TRY(use_setting(fixture, &setting));
	TRY(setting_works(&setting));
	SUCCEEDS(v1->CreateDomain(1, &other));
	REFUSES(v1->DetachDevice(other, setting.device->object, 0), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	REFUSES(v1->DetachDevice(setting.domain, setting.device->object, 1), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	TRY(setting_works(&setting));

	SUCCEEDS(v1->DetachDevice(setting.domain, setting.device->object, 0));
	TRY(probe_refuses(setting.device, setting.target.iova, WRITE, UnsupportedUpstreamTransaction));
	TRY(write_ignored(setting.device, setting.target));
	REFUSES(v1->DetachDevice(setting.domain, setting.device->object, 0), DMA_IOMMU_NT_INVALID_PARAMETER_2);

	/* What it had is the domain's, and there again for whoever comes next. */
	SUCCEEDS(v1->AttachDevice(setting.domain, setting.device->object, 0, 1));
	TRY(setting_works(&setting));
	detail("blocked as soon as it was out, although its translations were cached; working again once back");
	return true;
}
