/* DMA to where the device may not go. */
#include "cases.h"
#include "pci/sysfs.h"

#include <string.h>

/* Logical addresses have 48 bits. */
#define BEYOND_WIDTH (1ull << 48)
#define SOME_PASID 0x1234

bool case_use_after_unmap(struct fixture *fixture)
{
	struct place other = { OTHER_IOVA, use_pages(fixture, 1) };
	struct setting setting;

	TRY(other.memory && use_setting(fixture, &setting) && map_page(fixture, setting.domain, other, READ_WRITE));
	TRY(moves(setting.device, setting.source, other, EDU_BUFFER_SIZE));
	SUCCEEDS(fixture->v1.UnmapLogicalRange(setting.domain, other.iova, 1));
	TRY(write_refused(fixture, setting.device, other, fault_in(&setting, TranslationFault)));
	fact_access(&setting, other.iova);
	detail("a write at 0x%llx, which was unmapped: refused", printable(other.iova));
	return leave_setting(fixture, &setting);
}

bool case_never_mapped(struct fixture *fixture)
{
	struct setting setting;
	struct place nowhere;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	nowhere = (struct place){ OTHER_IOVA, setting.target.memory };
	TRY(write_refused(fixture, setting.device, nowhere, fault_in(&setting, TranslationFault)));
	fact_access(&setting, nowhere.iova);
	detail("a write at 0x%llx, where nothing was ever mapped: refused", printable(nowhere.iova));
	return leave_setting(fixture, &setting);
}

bool case_never_mapped_physical(struct fixture *fixture)
{
	struct setting setting;
	struct place physical;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	physical = (struct place){ physical_of(fixture, setting.target.memory), setting.target.memory };
	TRY(write_refused(fixture, setting.device, physical, fault_in(&setting, TranslationFault)));
	fact_access(&setting, physical.iova);
	detail("a write at 0x%llx, the buffer's physical address: refused", printable(physical.iova));
	return leave_setting(fixture, &setting);
}

bool case_wrong_direction(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(write_refused(fixture, setting.device, setting.source, fault_in(&setting, PermissionFault)));
	fact_access(&setting, setting.source.iova);
	detail("a write at 0x%llx, which may only be read: refused", printable(setting.source.iova));
	return leave_setting(fixture, &setting);
}

bool case_out_of_bounds(struct fixture *fixture)
{
	struct setting setting;
	struct dma_iommu_fault fault;
	uint64_t start, end;
	bool found;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	end = setting.target.iova + SMALL_PAGE;
	start = end - REFUSED_BYTES;
	TRY(edu_write(&setting.device->edu, start, 0, 2 * REFUSED_BYTES));
	TRY(dma_iommu_take_fault(&fault, 1000, &found));
	if (!found || fault.fault_address / SMALL_PAGE != end / SMALL_PAGE || fault.type != TranslationFault)
		return failed("expected a translation fault at 0x%llx, seen %s at 0x%llx", printable(end),
			      found ? "one" : "none", found ? printable(fault.fault_address) : 0);
	fact_access(&setting, start);
	detail("a write of %d bytes at 0x%llx leaves what is mapped: refused", 2 * REFUSED_BYTES, printable(start));
	return leave_setting(fixture, &setting);
}

bool case_address_too_wide(struct fixture *fixture)
{
	struct setting setting;
	struct place beyond;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	beyond = (struct place){ BEYOND_WIDTH | setting.target.iova, setting.target.memory };
	TRY(write_refused(fixture, setting.device, beyond, fault_in(&setting, AddressSizeFault)));
	fact_access(&setting, beyond.iova);
	detail("a write at 0x%llx, of 49 bits: refused", printable(beyond.iova));
	return leave_setting(fixture, &setting);
}

bool case_dma_while_detached(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting) && leave_setting(fixture, &setting));
	TRY(write_ignored(setting.device, setting.target));
	fact_access(&setting, setting.target.iova);
	detail("a write at 0x%llx after the device left its domain: refused", printable(setting.target.iova));
	return true;
}

bool case_dma_while_detached_unconfigured(struct fixture *fixture)
{
	struct setting setting = { .device = use_edu(fixture),
				   .target = { TARGET_IOVA, use_pages(fixture, 1) } };

	TRY(setting.device && setting.target.memory);
	SUCCEEDS(fixture->v1.CreateDomain(0, &setting.domain));
	SUCCEEDS(fixture->v1.AttachDevice(setting.domain, setting.device->object, 0, 1));
	TRY(report_faults(fixture, setting.device));
	TRY(write_refused(fixture, setting.device, setting.target,
			  fault_in(&setting, UnsupportedUpstreamTransaction)));
	fact_access(&setting, setting.target.iova);
	detail("a write at 0x%llx in a domain without tables: refused", printable(setting.target.iova));
	return leave_domain(fixture, &setting);
}

bool case_bus_master_off(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(pci_set_bus_master(setting.device->function.address, false));
	TRY(write_ignored(setting.device, setting.target));
	TRY(pci_set_bus_master(setting.device->function.address, true) && setting_works(&setting));
	fact_access(&setting, setting.target.iova);
	detail("nothing arrived while bus mastering was off");
	return leave_setting(fixture, &setting);
}

bool case_pasid_misuse(struct fixture *fixture)
{
	struct setting setting;
	struct dma_iommu_fault fault;
	bool found;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(edu_use_pasid(&setting.device->edu, SOME_PASID));
	memset(setting.target.memory, GUARD, REFUSED_BYTES);
	TRY(edu_write(&setting.device->edu, setting.target.iova, 0, REFUSED_BYTES));
	TRY(all_bytes(setting.target.memory, REFUSED_BYTES, GUARD, "memory after DMA with a PASID that nobody made"));
	/* Whether such a request is reported is up to the unit. */
	TRY(dma_iommu_take_fault(&fault, 50, &found));
	edu_use_no_pasid(&setting.device->edu);
	TRY(setting_works(&setting));
	fact_access(&setting, setting.target.iova);
	fact_number("pasid", SOME_PASID);
	detail("DMA with PASID 0x%x, which nobody made: refused", SOME_PASID);
	return leave_setting(fixture, &setting);
}
