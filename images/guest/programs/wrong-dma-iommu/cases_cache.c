/* Tables of the caller's own, with flushes that are forgotten or too late; and commands that change under way. */
#include "cases.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

/* Longer than anybody waits for a flush that belongs to an unmapping. */
#define LATE_MS 400
#define RACE_COMMANDS 1000

/* The device writes at `iova`: the bytes arrive in `memory`, which is where they should not. */
static bool write_lands(struct device *device, uint64_t iova, uint8_t *memory)
{
	static uint64_t seed = 1000;
	uint8_t before[REFUSED_BYTES];

	fill_pattern(before, REFUSED_BYTES, seed++);
	memcpy(memory, before, REFUSED_BYTES);
	TRY(edu_write(&device->edu, iova, 0, REFUSED_BYTES));
	if (memcmp(memory, before, REFUSED_BYTES) == 0)
		return failed("expected what the device wrote at 0x%llx in the memory that was cached for it, seen it "
			      "unchanged",
			      printable(iova));
	return no_fault();
}

bool case_correct_callers(struct fixture *fixture)
{
	struct callers callers;
	struct place other = { OTHER_IOVA, use_pages(fixture, 1) };

	TRY(other.memory && use_callers(fixture, &callers) && setting_works(&callers.setting));
	for (int i = 0; i < 2; i++) {
		TRY(tables_map(&callers.tables, other.iova, physical_of(fixture, other.memory), 1, READ_WRITE));
		TRY(moves(callers.setting.device, callers.setting.source, other, EDU_BUFFER_SIZE));
		TRY(clear_entry(&callers.tables, other.iova, 1));
		SUCCEEDS(fixture->v1.FlushDomainByVaList(callers.setting.domain, 1, 1, &other.iova));
	}
	TRY(setting_works(&callers.setting) && no_fault());
	detail("mapped, used, unmapped and flushed, twice at 0x%llx: nothing to complain about", printable(other.iova));
	return leave_callers(fixture, &callers);
}

bool case_stale_iotlb(struct fixture *fixture)
{
	struct callers callers;
	struct setting *setting = &callers.setting;
	const struct timespec wait = { .tv_nsec = LATE_MS * 1000000l };
	uint8_t *other = use_pages(fixture, 1);

	TRY(other && use_callers(fixture, &callers) && setting_works(setting));
	fill_byte(other, SMALL_PAGE, GUARD);
	TRY(tables_map(&callers.tables, setting->target.iova, physical_of(fixture, other), 1, READ_WRITE));
	TRY(write_lands(setting->device, setting->target.iova, setting->target.memory));
	TRY(all_bytes(other, SMALL_PAGE, GUARD, "the memory that is mapped now"));
	nanosleep(&wait, NULL);
	SUCCEEDS(fixture->v1.FlushDomain(setting->domain));
	TRY(write_lands(setting->device, setting->target.iova, other));
	fact_access(setting, setting->target.iova);
	detail("0x%llx went on leading to the old memory until it was flushed", printable(setting->target.iova));
	return leave_callers(fixture, &callers);
}

bool case_stale_iotlb_late(struct fixture *fixture)
{
	const struct timespec wait = { .tv_nsec = LATE_MS * 1000000l };
	struct callers callers;
	struct setting *setting = &callers.setting;

	TRY(use_callers(fixture, &callers) && setting_works(setting));
	TRY(clear_entry(&callers.tables, setting->target.iova, 1));
	TRY(write_lands(setting->device, setting->target.iova, setting->target.memory));
	nanosleep(&wait, NULL);
	fact_access(setting, setting->target.iova);
	detail("0x%llx was used after it was unmapped, and was not flushed for %d ms",
	       printable(setting->target.iova), LATE_MS);
	return leave_callers(fixture, &callers);
}

bool case_stale_paging_structure(struct fixture *fixture)
{
	struct callers callers;
	struct setting *setting = &callers.setting;
	struct place first = { OTHER_IOVA, use_pages(fixture, 1) };
	struct place second = { OTHER_IOVA + SMALL_PAGE, use_pages(fixture, 1) };
	struct tables *tables = &callers.tables;
	uint8_t *other = use_pages(fixture, 1);
	uint64_t *directory, kept;

	TRY(first.memory && second.memory && other && use_callers(fixture, &callers));
	TRY(tables_map(tables, first.iova, physical_of(fixture, first.memory), 1, READ_WRITE));
	TRY(tables_map(tables, second.iova, physical_of(fixture, second.memory), 1, READ_WRITE));
	TRY(moves(setting->device, setting->source, first, EDU_BUFFER_SIZE));

	/* Another table for the same addresses, with other memory. */
	directory = tables_entry(tables, first.iova, 2);
	TRY(directory);
	kept = *directory;
	TRY(clear_entry(tables, first.iova, 2));
	fill_byte(other, SMALL_PAGE, GUARD);
	TRY(tables_map(tables, second.iova, physical_of(fixture, other), 1, READ_WRITE));
	if (*directory == kept)
		return failed("expected another table, seen the same entry 0x%llx", printable(kept));
	SUCCEEDS(fixture->v1.FlushDomainByVaList(setting->domain, 1, 1, &first.iova));
	TRY(write_lands(setting->device, second.iova, second.memory));
	TRY(all_bytes(other, SMALL_PAGE, GUARD, "memory that the new table maps"));
	SUCCEEDS(fixture->v1.FlushDomain(setting->domain));
	TRY(write_lands(setting->device, second.iova, other));
	fact_access(setting, second.iova);
	detail("0x%llx was found through a table that is not in use any more", printable(second.iova));
	TRY(clear_entry(tables, second.iova, 1));
	return leave_callers(fixture, &callers);
}

bool case_dma_before_flush(struct fixture *fixture)
{
	struct callers callers;
	struct setting *setting = &callers.setting;

	TRY(use_callers(fixture, &callers) && setting_works(setting));
	TRY(clear_entry(&callers.tables, setting->target.iova, 1));
	TRY(write_lands(setting->device, setting->target.iova, setting->target.memory));
	SUCCEEDS(fixture->v1.FlushDomain(setting->domain));
	fact_access(setting, setting->target.iova);
	detail("0x%llx was written between the unmapping and its flush", printable(setting->target.iova));
	return leave_callers(fixture, &callers);
}

struct race {
	struct dma_iommu_command *ring;
	size_t entries;
	volatile uint64_t rewrites;
	volatile bool stop;
};

/* Rewrites a flag of every command, which says that its end needs no interrupt: nobody here waits for one. */
static void *rewrite(void *argument)
{
	struct race *race = argument;

	for (; !race->stop; race->rewrites++) {
		for (size_t i = 0; i < race->entries; i++)
			*(volatile uint16_t *)&race->ring[i].flags ^= DMA_IOMMU_COMMAND_NO_INTERRUPT;
	}
	return NULL;
}

bool case_descriptor_race(struct fixture *fixture)
{
	struct callers callers;
	struct race race = { .stop = false };
	NTSTATUS status = DMA_IOMMU_NT_SUCCESS;
	pthread_t thread;

	TRY(use_callers(fixture, &callers) && setting_works(&callers.setting));
	race.ring = dma_iommu_command_ring(&race.entries);
	if (pthread_create(&thread, NULL, rewrite, &race) != 0)
		return failed("cannot start a thread");
	for (int i = 0; i < RACE_COMMANDS && NT_SUCCESS(status); i++) {
		/* The other thread may wait for a processor. */
		for (uint64_t seen = race.rewrites; race.rewrites == seen;)
			sched_yield();
		status = fixture->v1.FlushDomain(callers.setting.domain);
	}
	race.stop = true;
	pthread_join(thread, NULL);
	SUCCEEDS(status);
	TRY(setting_works(&callers.setting));
	fact_number("commands", RACE_COMMANDS);
	detail("%d commands carried out while another thread rewrote them", RACE_COMMANDS);
	return leave_callers(fixture, &callers);
}
