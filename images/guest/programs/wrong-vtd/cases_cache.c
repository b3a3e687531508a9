/* Flushes that are forgotten, too late, or of the wrong thing. */
#include "cases.h"

#include <time.h>

/* Longer than anybody waits for a flush that belongs to an unmapping. */
#define LATE_MS 400

static void wait_until_late(void)
{
	const struct timespec wait = { .tv_nsec = LATE_MS * 1000000l };

	nanosleep(&wait, NULL);
}

bool case_correct(struct fixture *fixture)
{
	struct setting setting;
	struct place other;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(use_place(fixture, setting.domain, OTHER_IOVA, VTD_READ_WRITE, &other));
	TRY(moves(setting.device, setting.source, other));
	TRY(vtd_unmap(setting.domain, other.iova, SMALL_PAGE));
	/* The same address for other memory, after a flush. */
	TRY(use_place(fixture, setting.domain, OTHER_IOVA, VTD_READ_WRITE, &other));
	TRY(moves(setting.device, setting.source, other) && vtd_unmap(setting.domain, other.iova, SMALL_PAGE));
	TRY(setting_works(&setting) && leave_setting(&setting) && no_fault(fixture));
	detail("mapped, used, unmapped and flushed, twice at 0x%llx: nothing to complain about", OTHER_IOVA);
	return true;
}

bool case_stale_iotlb(struct fixture *fixture)
{
	struct setting setting;
	uint8_t *other = use_pages(fixture, 1);

	TRY(other && use_setting(fixture, &setting) && setting_works(&setting));
	fill_byte(other, SMALL_PAGE, GUARD);
	vtd_store(vtd_entry(setting.domain, setting.target.iova, 1), physical_of(fixture, other) | VTD_READ_WRITE);
	TRY(write_lands(fixture, setting.device, setting.target.iova, setting.target.memory));
	TRY(all_bytes(other, SMALL_PAGE, GUARD, "the memory that is mapped now"));
	wait_until_late();
	TRY(vtd_flush_domain(&fixture->unit, setting.domain->id));
	TRY(write_lands(fixture, setting.device, setting.target.iova, other));
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("0x%llx went on leading to the old memory until it was flushed",
	       (unsigned long long)setting.target.iova);
	return leave_setting(&setting);
}

bool case_stale_iotlb_permissions(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	vtd_store(vtd_entry(setting.domain, setting.target.iova, 1),
		  physical_of(fixture, setting.target.memory) | VTD_READ);
	TRY(write_lands(fixture, setting.device, setting.target.iova, setting.target.memory));
	fact_access(setting.device, setting.domain, setting.target.iova);
	wait_until_late();
	detail("0x%llx could still be written after it was made read-only", (unsigned long long)setting.target.iova);
	return leave_setting(&setting);
}

bool case_stale_iotlb_late(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(vtd_clear(setting.domain, setting.target.iova, SMALL_PAGE));
	TRY(write_lands(fixture, setting.device, setting.target.iova, setting.target.memory));
	wait_until_late();
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("0x%llx was used after it was unmapped, and was not flushed for %d ms",
	       (unsigned long long)setting.target.iova, LATE_MS);
	return leave_setting(&setting);
}

bool case_stale_context(struct fixture *fixture)
{
	struct setting setting;
	struct vtd_domain *second = use_domain(fixture, 4);
	struct place elsewhere;
	uint16_t requester_id;

	TRY(second && use_setting(fixture, &setting) && setting_works(&setting));
	TRY(use_place(fixture, second, setting.target.iova, VTD_READ_WRITE, &elsewhere));
	fill_byte(elsewhere.memory, SMALL_PAGE, GUARD);
	requester_id = setting.device->requester_id;
	TRY(vtd_set_context(&fixture->unit, requester_id, second));
	TRY(write_lands(fixture, setting.device, setting.target.iova, setting.target.memory));
	TRY(all_bytes(elsewhere.memory, SMALL_PAGE, GUARD, "memory of the new domain"));
	wait_until_late();
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("the device stayed in domain %u although its context entry says %u", setting.domain->id, second->id);
	/* Back to what is cached. */
	TRY(vtd_set_context(&fixture->unit, requester_id, setting.domain));
	return vtd_flush_context(&fixture->unit, requester_id, setting.domain->id) && leave_setting(&setting);
}

bool case_stale_paging_structure(struct fixture *fixture)
{
	struct setting setting;
	struct place first, second;
	uint8_t *pages = use_pages(fixture, 2);
	uint64_t *table, *directory;

	TRY(pages && use_setting(fixture, &setting));
	TRY(use_place(fixture, setting.domain, OTHER_IOVA, VTD_READ_WRITE, &first));
	TRY(use_place(fixture, setting.domain, OTHER_IOVA + SMALL_PAGE, VTD_READ_WRITE, &second));
	TRY(moves(setting.device, setting.source, first));

	/* Another table for the same addresses, with other memory. */
	table = arena_allocate(&fixture->unit.arena, SMALL_PAGE, SMALL_PAGE);
	directory = vtd_entry(setting.domain, OTHER_IOVA, 2);
	TRY(table && directory);
	fill_byte(pages, 2 * SMALL_PAGE, GUARD);
	for (unsigned i = 0; i < 2; i++)
		table[OTHER_IOVA / SMALL_PAGE % 512 + i] = (physical_of(fixture, pages) + i * SMALL_PAGE) | VTD_READ_WRITE;
	vtd_store(directory, arena_physical(&fixture->unit.arena, table) | VTD_READ_WRITE);
	/* The promise that only leaves changed is wrong. */
	TRY(vtd_flush_pages(&fixture->unit, setting.domain->id, OTHER_IOVA, 1, true));
	TRY(write_lands(fixture, setting.device, second.iova, second.memory));
	TRY(all_bytes(pages, 2 * SMALL_PAGE, GUARD, "memory that the new table maps"));
	TRY(vtd_flush_pages(&fixture->unit, setting.domain->id, OTHER_IOVA, 2, false));
	TRY(write_lands(fixture, setting.device, second.iova, pages + SMALL_PAGE));
	fact_access(setting.device, setting.domain, second.iova);
	detail("0x%llx was found through a table that is not in use any more", (unsigned long long)second.iova);
	return vtd_unmap(setting.domain, OTHER_IOVA, 2 * SMALL_PAGE) && leave_setting(&setting);
}

bool case_missing_map_invalidation(struct fixture *fixture)
{
	struct setting setting;
	struct place place = { OTHER_IOVA, use_pages(fixture, 1) };
	uint64_t *entry;

	if (!vtd_caching_mode(&fixture->unit))
		return skipped(fixture, "the unit has no caching mode");
	TRY(place.memory && use_setting(fixture, &setting) && setting_works(&setting));
	/* From now on the unit may remember that nothing is here. */
	TRY(write_refused(fixture, setting.device, place, VTD_FAULT_WRITE));
	entry = vtd_entry(setting.domain, place.iova, 1);
	TRY(entry);
	vtd_store(entry, physical_of(fixture, place.memory) | VTD_READ_WRITE);
	TRY(write_refused(fixture, setting.device, place, VTD_FAULT_WRITE));
	TRY(vtd_flush_pages(&fixture->unit, setting.domain->id, place.iova, 1, false));
	TRY(write_lands(fixture, setting.device, place.iova, place.memory));
	fact_access(setting.device, setting.domain, place.iova);
	detail("0x%llx stayed refused after it was mapped, until it was flushed", (unsigned long long)place.iova);
	return vtd_unmap(setting.domain, place.iova, SMALL_PAGE) && leave_setting(&setting);
}

bool case_dma_before_flush(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(vtd_clear(setting.domain, setting.target.iova, SMALL_PAGE));
	TRY(write_lands(fixture, setting.device, setting.target.iova, setting.target.memory));
	TRY(vtd_flush_pages(&fixture->unit, setting.domain->id, setting.target.iova, 1, true));
	fact_access(setting.device, setting.domain, setting.target.iova);
	detail("0x%llx was written between the unmapping and its flush", (unsigned long long)setting.target.iova);
	return leave_setting(&setting);
}
