/* Misuse of the unit's own interface. */
#include "cases.h"

#include <pthread.h>
#include <sched.h>

#define RESERVED_TYPE 0x7ull
/* The queue has one page: its tail cannot lie here. */
#define TAIL_BEYOND_END 0x1000
/* Laps of a queue full of descriptors, some of which change all the time. */
#define RACE_LAPS 100
#define RACE_DISTANCE 16
/* No processor takes interrupt messages above 4 GiB here. */
#define NO_INTERRUPT_ADDRESS_HIGH 1u
#define NO_INTERRUPT_ADDRESS 0xfee00000u

#define ANSWER_DEADLINE_MS 15000

static bool wait_queue_error(struct fixture *fixture)
{
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;

	while (!(vtd_read32(&fixture->unit, VTD_REG_FAULT_STATUS) & VTD_FAULT_STATUS_QUEUE_ERROR)) {
		if (now_ms() > deadline)
			return failed("expected an invalidation queue error within %d ms", ANSWER_DEADLINE_MS);
	}
	return true;
}

bool case_invalidation_queue_misuse(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	vtd_add(&fixture->unit, (struct vtd_descriptor){ .low = RESERVED_TYPE });
	vtd_submit(&fixture->unit);
	TRY(wait_queue_error(fixture) && vtd_restart_queue(&fixture->unit) && setting_works(&setting));
	detail("a descriptor of type %llu stopped the queue", RESERVED_TYPE);
	return leave_setting(&setting);
}

bool case_invalidation_queue_misuse_tail(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	vtd_write64(&fixture->unit, VTD_REG_QUEUE_TAIL, TAIL_BEYOND_END);
	TRY(wait_queue_error(fixture) && vtd_restart_queue(&fixture->unit) && setting_works(&setting));
	detail("a tail of 0x%x, beyond the end, stopped the queue", TAIL_BEYOND_END);
	return leave_setting(&setting);
}

struct race {
	struct vtd_descriptor *queue;
	volatile uint64_t rewrites;
	volatile bool stop;
};

/* Rewrites what the unit reads. The bit asks for what this unit does anyway. */
static void *rewrite(void *argument)
{
	struct race *race = argument;

	for (; !race->stop; race->rewrites++) {
		for (unsigned i = 0; i < VTD_QUEUE_LENGTH; i += RACE_DISTANCE)
			*(volatile uint64_t *)&race->queue[i].low ^= VTD_IOTLB_DRAIN_WRITES;
	}
	return NULL;
}

/* Fills the queue with flushes of the domain, all but one, since a full one is an empty one; waits until the unit is through. */
static bool flush_lap(struct fixture *fixture, uint16_t domain)
{
	struct vtd_unit *unit = &fixture->unit;
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;
	uint32_t wanted;

	for (unsigned i = 0; i < VTD_QUEUE_LENGTH - 1; i++)
		vtd_add(unit, (struct vtd_descriptor){
				      .low = VTD_DESCRIPTOR_IOTLB | VTD_GRANULARITY_DOMAIN | VTD_DESCRIPTOR_DOMAIN(domain),
			      });
	vtd_submit(unit);
	wanted = unit->tail * (uint32_t)sizeof(*unit->queue);
	while (vtd_read32(unit, VTD_REG_QUEUE_HEAD) != wanted) {
		if (now_ms() > deadline)
			return failed("expected the queue to be empty within %d ms, seen its head at 0x%x and its tail at "
				      "0x%x",
				      ANSWER_DEADLINE_MS, vtd_read32(unit, VTD_REG_QUEUE_HEAD), wanted);
	}
	return true;
}

static bool race_laps(struct fixture *fixture, uint16_t domain)
{
	struct race race = { .queue = fixture->unit.queue };
	uint64_t seen;
	pthread_t thread;
	bool done = true;

	/* Twice, so that no descriptor of another kind is left in the queue. */
	TRY(flush_lap(fixture, domain) && flush_lap(fixture, domain));
	if (pthread_create(&thread, NULL, rewrite, &race) != 0)
		return failed("cannot start a thread");
	for (int lap = 0; done && lap < RACE_LAPS; lap++) {
		/* The other thread may wait for a processor. */
		for (seen = race.rewrites; race.rewrites == seen;)
			sched_yield();
		done = flush_lap(fixture, domain);
	}
	race.stop = true;
	pthread_join(thread, NULL);
	return done;
}

bool case_descriptor_race(struct fixture *fixture)
{
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	TRY(race_laps(fixture, setting.domain->id) && setting_works(&setting));
	fact_number("descriptors", RACE_LAPS * (VTD_QUEUE_LENGTH - 1));
	detail("%u descriptors carried out while another thread rewrote some",
	       RACE_LAPS * (VTD_QUEUE_LENGTH - 1));
	return leave_setting(&setting);
}

bool case_interrupt_misuse(struct fixture *fixture)
{
	struct vtd_unit *unit = &fixture->unit;
	struct setting setting;

	TRY(use_setting(fixture, &setting) && setting_works(&setting));
	/* An interrupt for each completed wait, sent to where no processor is. */
	vtd_write32(unit, VTD_REG_COMPLETION_DATA, 0);
	vtd_write32(unit, VTD_REG_COMPLETION_ADDRESS, NO_INTERRUPT_ADDRESS);
	vtd_write32(unit, VTD_REG_COMPLETION_UPPER_ADDRESS, NO_INTERRUPT_ADDRESS_HIGH);
	vtd_write32(unit, VTD_REG_COMPLETION_CONTROL, 0);
	vtd_add(unit, (struct vtd_descriptor){ .low = VTD_DESCRIPTOR_WAIT | VTD_WAIT_INTERRUPT });
	TRY(vtd_wait(unit));
	if (!(vtd_read32(unit, VTD_REG_COMPLETION_STATUS) & VTD_COMPLETION_DONE))
		return failed("expected the completion status to be set");
	vtd_write32(unit, VTD_REG_COMPLETION_CONTROL, VTD_EVENT_MASKED);
	vtd_write32(unit, VTD_REG_COMPLETION_STATUS, VTD_COMPLETION_DONE);
	vtd_write32(unit, VTD_REG_COMPLETION_UPPER_ADDRESS, 0);
	TRY(setting_works(&setting));
	detail("the unit's interrupt at 0x%x%08x reached no processor", NO_INTERRUPT_ADDRESS_HIGH,
	       NO_INTERRUPT_ADDRESS);
	return leave_setting(&setting);
}
