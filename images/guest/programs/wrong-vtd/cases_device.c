/* Devices that are not where the driver thinks, or not switched on; and drivers that misuse their registers. */
#include "cases.h"
#include "pci/sysfs.h"

/* Where edu has no register. */
#define NO_REGISTER 0x70
#define LIVENESS 0x04
/* A driver that waits for what cannot come does so for a while. */
#define SPIN_MS 3000
#define SPIN_READS 30000
#define SPIN_LIMIT_MS 30000
/* Within the reach of a device that drives 28 address lines. */
#define NARROW_IOVA 0x02000000ull
#define SOME_PASID 0x1234

bool case_wrong_requester_id(struct fixture *fixture)
{
	struct vtd_domain *domain = use_domain(fixture, 4);
	struct device *device;
	struct place target;
	uint16_t wrong;

	/* Not the first device, which other cases attach as they should. */
	if (fixture->edus->count < 2)
		return skipped(fixture, "the case needs two devices");
	device = use_edu(fixture) ? use_edu(fixture) : NULL;
	TRY(device && domain && use_place(fixture, domain, NARROW_IOVA, VTD_READ_WRITE, &target));
	/* Function 1 of the device, which has no function 1. */
	wrong = device->requester_id | 1;
	TRY(vtd_attach(domain, wrong));
	TRY(write_refused(fixture, device, target, VTD_FAULT_CONTEXT_NOT_PRESENT));
	fact_access(device, domain, target.iova);
	return vtd_unmap(domain, target.iova, SMALL_PAGE) && vtd_detach(domain, wrong);
}

bool case_bus_master_off(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(pci_set_bus_master(setting.device->function.address, false));
	TRY(write_refused(fixture, setting.device, setting.target, 0));
	TRY(pci_set_bus_master(setting.device->function.address, true) && setting_works(&setting));
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("nothing arrived while bus mastering was off");
	return leave_setting(&setting);
}

bool case_dma_while_detached(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting) && leave_setting(&setting));
	TRY(write_refused(fixture, setting.device, setting.target, VTD_FAULT_CONTEXT_NOT_PRESENT));
	fact_access(setting.device, setting.domain, setting.target.iova);
	return true;
}

bool case_mapping_leak(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(vtd_detach(setting.domain, setting.device->requester_id));
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("the device left domain %u, and its mappings stayed", setting.domain->id);
	return vtd_unmap(setting.domain, setting.source.iova, SMALL_PAGE) &&
	       vtd_unmap(setting.domain, setting.target.iova, SMALL_PAGE);
}

bool case_pasid_misuse(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(edu_use_pasid(&setting.device->edu, SOME_PASID));
	TRY(write_refused(fixture, setting.device, setting.target, 0));
	edu_use_no_pasid(&setting.device->edu);
	TRY(setting_works(&setting));
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("DMA with PASID 0x%x went nowhere: this unit has none", SOME_PASID);
	return leave_setting(&setting);
}

bool case_register_spin(struct fixture *fixture)
{
	struct device *device = use_edu(fixture);
	uint64_t start = now_ms(), now = start;
	volatile uint32_t *liveness;
	uint32_t first, reads = 0;

	TRY(device);
	liveness = (volatile uint32_t *)(device->function.bar0 + LIVENESS);
	first = *liveness;
	while (now - start < SPIN_MS || reads < SPIN_READS) {
		if (*liveness != first)
			return failed("expected the register to stay 0x%x", first);
		if (now - start > SPIN_LIMIT_MS)
			return failed("expected %d reads in %d ms, seen %u", SPIN_READS, SPIN_LIMIT_MS, reads);
		if (++reads % 64 == 0)
			now = now_ms();
	}
	fact_number("reads", reads);
	detail("register 0x%x read %u times in %llu ms, always 0x%x", LIVENESS, reads,
	       (unsigned long long)(now - start), first);
	return true;
}

bool case_unknown_register(struct fixture *fixture)
{
	struct device *device = use_edu(fixture);
	uint32_t seen;

	TRY(device);
	seen = *(volatile uint32_t *)(device->function.bar0 + NO_REGISTER);
	if (seen != UINT32_MAX)
		return failed("expected all ones where there is no register, seen 0x%x", seen);
	fact_number("offset", NO_REGISTER);
	detail("offset 0x%x of BAR 0, where nothing is, reads as all ones", NO_REGISTER);
	return true;
}
