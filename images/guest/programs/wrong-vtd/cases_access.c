/* DMA to where the device may not go. */
#include "cases.h"
#include "vtd/firmware.h"

/* Devices send interrupts by writes to this range of 1 MiB (VT-d specification, 3.15). */
#define INTERRUPT_RANGE 0xfee00000ull
/* What the documented edu device drives. */
#define EDU_ADDRESS_BITS 28
/* Beyond what tables of three levels translate. */
#define BEYOND_3_LEVELS (1ull << 39)

bool case_use_after_unmap(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(vtd_unmap(setting.domain, setting.target.iova, SMALL_PAGE));
	TRY(write_refused(fixture, setting.device, setting.target, VTD_FAULT_WRITE));
	fact_access(setting.device, setting.domain, setting.target.iova);
	return leave_setting(&setting);
}

bool case_wrong_direction(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(write_refused(fixture, setting.device, setting.source, VTD_FAULT_WRITE));
	fact_access(setting.device, setting.domain, setting.source.iova);
	return leave_setting(&setting);
}

bool case_wrong_direction_read(struct fixture *fixture)
{
	struct setting setting;
	struct place write_only;

	TRY(use_setting(fixture, &setting));
	TRY(use_place(fixture, setting.domain, OTHER_IOVA, VTD_WRITE, &write_only));
	TRY(moves(setting.device, setting.source, write_only));
	TRY(read_refused(fixture, setting.device, write_only.iova, VTD_FAULT_READ));
	fact_access(setting.device, setting.domain, write_only.iova);
	return vtd_unmap(setting.domain, write_only.iova, SMALL_PAGE) && leave_setting(&setting);
}

bool case_out_of_bounds(struct fixture *fixture)
{
	struct setting setting;
	uint64_t start, end;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	end = setting.target.iova + SMALL_PAGE;
	start = end - REFUSED_BYTES;
	TRY(edu_write(&setting.device->edu, start, 0, 2 * REFUSED_BYTES));
	TRY(expect_fault(fixture, setting.device, end, true, VTD_FAULT_WRITE));
	fact_access(setting.device, setting.domain, start);
	return leave_setting(&setting);
}

bool case_out_of_bounds_beside(struct fixture *fixture)
{
	struct setting setting;
	struct place beside;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	beside = (struct place){ setting.target.iova + SMALL_PAGE, setting.target.memory };
	TRY(write_refused(fixture, setting.device, beside, VTD_FAULT_WRITE));
	fact_access(setting.device, setting.domain, beside.iova);
	return leave_setting(&setting);
}

bool case_never_mapped(struct fixture *fixture)
{
	struct setting setting;
	struct place nowhere;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	nowhere = (struct place){ OTHER_IOVA, setting.target.memory };
	TRY(write_refused(fixture, setting.device, nowhere, VTD_FAULT_WRITE));
	fact_access(setting.device, setting.domain, nowhere.iova);
	return leave_setting(&setting);
}

bool case_never_mapped_physical(struct fixture *fixture)
{
	struct setting setting;
	struct place physical;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	physical = (struct place){ physical_of(fixture, setting.target.memory), setting.target.memory };
	TRY(write_refused(fixture, setting.device, physical, VTD_FAULT_WRITE));
	fact_access(setting.device, setting.domain, physical.iova);
	return leave_setting(&setting);
}

bool case_reserved_range(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(read_refused(fixture, setting.device, INTERRUPT_RANGE, VTD_FAULT_INTERRUPT_RANGE));
	fact_access(setting.device, setting.domain, INTERRUPT_RANGE);
	return leave_setting(&setting);
}

bool case_reserved_range_mapped(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(vtd_map(setting.domain, OTHER_IOVA, INTERRUPT_RANGE, SMALL_PAGE, VTD_READ_WRITE));
	TRY(read_refused(fixture, setting.device, OTHER_IOVA, VTD_FAULT_INTERRUPT_RANGE));
	fact_access(setting.device, setting.domain, OTHER_IOVA);
	return vtd_unmap(setting.domain, OTHER_IOVA, SMALL_PAGE) && leave_setting(&setting);
}

/* The second device of the machine drives 28 address lines: what it is given beyond them, it does not send. */
bool case_address_too_wide(struct fixture *fixture)
{
	const uint64_t sent = SOURCE_IOVA % (1ull << EDU_ADDRESS_BITS);
	struct setting setting;
	struct place place;
	struct device *narrow;

	if (fixture->edus->count < 2)
		return skipped(fixture, "the case needs a second device, with 28 address bits");
	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	narrow = use_edu(fixture);
	TRY(narrow && use_place(fixture, setting.domain, sent, VTD_READ_WRITE, &place));
	TRY(vtd_attach(setting.domain, narrow->requester_id));
	fill_byte(place.memory, SMALL_PAGE, GUARD);
	TRY(write_lands(fixture, narrow, SOURCE_IOVA, place.memory));
	fact_access(narrow, setting.domain, SOURCE_IOVA);
	detail("the device sent 0x%llx as 0x%llx", SOURCE_IOVA, (unsigned long long)sent);
	return vtd_unmap(setting.domain, sent, SMALL_PAGE) && vtd_detach(setting.domain, narrow->requester_id) &&
	       leave_setting(&setting);
}

bool case_address_too_wide_unit(struct fixture *fixture)
{
	struct device *device = use_edu(fixture);
	struct vtd_domain *domain = use_domain(fixture, 3);
	struct place source, target;

	TRY(device && domain);
	TRY(use_place(fixture, domain, SOURCE_IOVA, VTD_READ, &source));
	TRY(use_place(fixture, domain, TARGET_IOVA, VTD_READ_WRITE, &target));
	TRY(vtd_attach(domain, device->requester_id) && moves(device, source, target));
	TRY(write_refused(fixture, device, (struct place){ BEYOND_3_LEVELS | TARGET_IOVA, target.memory },
			  VTD_FAULT_BEYOND_WIDTH));
	fact_access(device, domain, BEYOND_3_LEVELS | TARGET_IOVA);
	return vtd_unmap(domain, source.iova, SMALL_PAGE) && vtd_unmap(domain, target.iova, SMALL_PAGE) &&
	       vtd_detach(domain, device->requester_id);
}

bool case_dma_to_no_memory(struct fixture *fixture)
{
	struct setting setting;
	uint64_t hole;

	TRY(physical_hole(&hole) && use_setting(fixture, &setting) && setting_works(&setting));
	TRY(vtd_map(setting.domain, OTHER_IOVA, hole, SMALL_PAGE, VTD_READ_WRITE));
	TRY(edu_write(&setting.device->edu, OTHER_IOVA, 0, REFUSED_BYTES) && no_fault(fixture));
	/* A read from nowhere gives all ones. */
	TRY(edu_read(&setting.device->edu, OTHER_IOVA, 0, REFUSED_BYTES));
	TRY(edu_write(&setting.device->edu, setting.target.iova, 0, REFUSED_BYTES));
	TRY(all_bytes(setting.target.memory, REFUSED_BYTES, 0xff, "what the device read where no memory is"));
	fact_access(setting.device, setting.domain, OTHER_IOVA);
	fact_address("hole", hole);
	detail("0x%llx leads to 0x%llx, where no memory is", OTHER_IOVA, (unsigned long long)hole);
	return vtd_unmap(setting.domain, OTHER_IOVA, SMALL_PAGE) && leave_setting(&setting);
}
