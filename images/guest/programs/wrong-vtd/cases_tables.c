/* Tables that make no sense. */
#include "cases.h"

#include <stdio.h>

/* Reserved in the entry of a page: bit 62 (9.8), and bits 11:4 of a context entry (9.3). */
#define PAGE_RESERVED_BIT (1ull << 62)
#define CONTEXT_RESERVED_BIT (1ull << 4)
/* Within the unit's address width, and no memory of any guest that this runs in. */
#define OUTSIDE_MEMORY 0x20000000000ull

/* An address with the same index on every level, which a table that contains itself leads back to. */
#define LOOP_INDEX 5ull
#define LOOP_IOVA (LOOP_INDEX << 39 | LOOP_INDEX << 30 | LOOP_INDEX << 21 | LOOP_INDEX << 12)

/* The device meets the wrong entry, then works again at its other addresses. */
static bool meets(struct fixture *fixture, struct setting *setting, uint64_t *entry, uint64_t value, uint64_t iova,
		  uint8_t reason)
{
	struct place victim = { iova, setting->target.memory };

	TRY(entry);
	vtd_store(entry, value);
	TRY(write_refused(fixture, setting->device, victim, reason));
	vtd_store(entry, 0);
	TRY(vtd_flush_domain(&fixture->unit, setting->domain->id) && setting_works(setting));
	fact_access(setting->device, setting->domain, iova);
	detail("the entry 0x%llx for 0x%llx: fault 0x%x", (unsigned long long)value, (unsigned long long)iova, reason);
	return leave_setting(setting);
}

bool case_malformed_table(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	return meets(fixture, &setting, vtd_entry(setting.domain, OTHER_IOVA, 1),
		     physical_of(fixture, setting.target.memory) | VTD_READ_WRITE | PAGE_RESERVED_BIT, OTHER_IOVA,
		     VTD_FAULT_TABLE_RESERVED);
}

bool case_malformed_table_outside(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	return meets(fixture, &setting, vtd_entry(setting.domain, OTHER_IOVA, 2), OUTSIDE_MEMORY | VTD_READ_WRITE,
		     OTHER_IOVA, VTD_FAULT_TABLE_ACCESS);
}

/* The guest-physical address of BAR 0, from the kernel. */
static bool bar0_address(const char *device, uint64_t *address)
{
	unsigned long long start;
	char path[128];
	FILE *file;
	bool done;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource", device);
	file = fopen(path, "r");
	if (!file)
		return failed_errno("cannot open %s", path);
	done = fscanf(file, "%llx", &start) == 1 && start != 0;
	fclose(file);
	*address = start;
	return done || failed("%s names no address for BAR 0", path);
}

bool case_malformed_table_device(struct fixture *fixture)
{
	struct setting setting;
	uint64_t bar = 0;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(bar0_address(setting.device->function.address, &bar));
	fact_address("bar", bar);
	return meets(fixture, &setting, vtd_entry(setting.domain, OTHER_IOVA, 2), bar | VTD_READ_WRITE, OTHER_IOVA,
		     VTD_FAULT_TABLE_ACCESS);
}

bool case_malformed_table_loop(struct fixture *fixture)
{
	struct setting setting;
	struct arena *arena = &fixture->unit.arena;
	uint64_t root, seen;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	root = arena_physical(arena, setting.domain->root);
	vtd_store(&setting.domain->root[LOOP_INDEX], root | VTD_READ_WRITE);
	/* Four times round, the root table is also the page: the device reads it. */
	TRY(edu_read(&setting.device->edu, LOOP_IOVA + LOOP_INDEX * sizeof(uint64_t), 0, sizeof(uint64_t)));
	TRY(edu_write(&setting.device->edu, setting.target.iova, 0, sizeof(uint64_t)));
	seen = *(const uint64_t *)setting.target.memory;
	vtd_store(&setting.domain->root[LOOP_INDEX], 0);
	TRY(vtd_flush_domain(&fixture->unit, setting.domain->id) && no_fault(fixture));
	if (seen != (root | VTD_READ_WRITE))
		return failed("expected the device to read the entry 0x%llx of the root table, seen 0x%llx",
			      (unsigned long long)(root | VTD_READ_WRITE), (unsigned long long)seen);
	fact_access(setting.device, setting.domain, LOOP_IOVA);
	detail("the root table contains itself: the device reads it at 0x%llx", LOOP_IOVA);
	return leave_setting(&setting);
}

bool case_malformed_table_context(struct fixture *fixture)
{
	struct setting setting;
	struct device *device;
	uint64_t *entry;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	device = setting.device;
	entry = vtd_context(&fixture->unit, device->requester_id);
	vtd_store(entry, *entry | CONTEXT_RESERVED_BIT);
	TRY(vtd_flush_context(&fixture->unit, device->requester_id, setting.domain->id));
	TRY(vtd_flush_domain(&fixture->unit, setting.domain->id));
	TRY(write_refused(fixture, device, setting.target, VTD_FAULT_CONTEXT_RESERVED));
	vtd_store(entry, *entry & ~CONTEXT_RESERVED_BIT);
	TRY(vtd_flush_all_contexts(&fixture->unit) && vtd_flush_all(&fixture->unit) && setting_works(&setting));
	fact_access(device, setting.domain, setting.target.iova);
	return leave_setting(&setting);
}
