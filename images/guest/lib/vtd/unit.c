#include "vtd/unit.h"

#include "report/report.h"
#include "vtd/firmware.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_DEADLINE_MS 15000
#define POLL_NS 50000
#define ENTRY_WORDS 2
/* The queue's register counts its length in pages of 256 descriptors, as a power of two: 0 is one page. */
#define QUEUE_SIZE_ONE_PAGE 0

uint32_t vtd_read32(struct vtd_unit *unit, uint32_t offset)
{
	return *(volatile uint32_t *)(unit->registers + offset);
}

static uint64_t read64(struct vtd_unit *unit, uint32_t offset)
{
	return *(volatile uint64_t *)(unit->registers + offset);
}

void vtd_write32(struct vtd_unit *unit, uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(unit->registers + offset) = value;
}

void vtd_write64(struct vtd_unit *unit, uint32_t offset, uint64_t value)
{
	*(volatile uint64_t *)(unit->registers + offset) = value;
}

void vtd_store(uint64_t *entry, uint64_t value)
{
	__atomic_store_n(entry, value, __ATOMIC_SEQ_CST);
}

bool vtd_caching_mode(const struct vtd_unit *unit)
{
	return unit->capability & VTD_CAP_CACHING_MODE;
}

static void pause_briefly(void)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };

	nanosleep(&pause, NULL);
}

static bool map_registers(struct vtd_unit *unit)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	void *registers;

	if (fd < 0)
		return failed_errno("cannot open /dev/mem");
	registers = mmap(NULL, VTD_REGISTER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)unit->base);
	close(fd);
	if (registers == MAP_FAILED)
		return failed_errno("cannot map the registers at 0x%llx (is the guest booted with iomem=relaxed?)",
				    (unsigned long long)unit->base);
	unit->registers = registers;
	return true;
}

static bool check_unit(struct vtd_unit *unit)
{
	const uint64_t wanted = VTD_CAP_3_LEVELS | VTD_CAP_4_LEVELS | VTD_CAP_LARGE_PAGES | VTD_CAP_PAGE_SELECTIVE;
	uint32_t version = vtd_read32(unit, VTD_REG_VERSION), status;

	if (version == 0 || version == UINT32_MAX)
		return failed("no VT-d unit answers at 0x%llx: version 0x%x", (unsigned long long)unit->base, version);
	unit->capability = read64(unit, VTD_REG_CAPABILITY);
	if ((unit->capability & wanted) != wanted)
		return failed("the unit cannot do all that is needed: capabilities 0x%llx, needed 0x%llx",
			      (unsigned long long)unit->capability, (unsigned long long)wanted);
	if (!(read64(unit, VTD_REG_EXTENDED_CAPABILITY) & VTD_ECAP_QUEUE))
		return failed("the unit has no invalidation queue");
	status = vtd_read32(unit, VTD_REG_GLOBAL_STATUS);
	if (status & (VTD_GLOBAL_TRANSLATION | VTD_GLOBAL_QUEUE))
		return failed("the unit is in use already: global status 0x%08x (is the guest booted with intel_iommu=off?)",
			      status);
	return true;
}

/* Changes one bit of the global command register and waits until the status says so. */
static bool command(struct vtd_unit *unit, uint32_t bit, bool on)
{
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;
	uint32_t value = vtd_read32(unit, VTD_REG_GLOBAL_STATUS) & ~VTD_GLOBAL_ONE_SHOT;

	vtd_write32(unit, VTD_REG_GLOBAL_COMMAND, on ? value | bit : value & ~bit);
	while (((vtd_read32(unit, VTD_REG_GLOBAL_STATUS) & bit) != 0) != on) {
		if (now_ms() > deadline)
			return failed("expected bit 0x%08x of the global status to become %d within %d ms", bit, on,
				      ANSWER_DEADLINE_MS);
		pause_briefly();
	}
	return true;
}

static bool start_queue(struct vtd_unit *unit)
{
	unit->tail = 0;
	vtd_write64(unit, VTD_REG_QUEUE_TAIL, 0);
	vtd_write64(unit, VTD_REG_QUEUE_ADDRESS, arena_physical(&unit->arena, unit->queue) | QUEUE_SIZE_ONE_PAGE);
	return command(unit, VTD_GLOBAL_QUEUE, true);
}

bool vtd_restart_queue(struct vtd_unit *unit)
{
	/* Emptied before the error is cleared: with the tail where the head is, the unit has nothing to go on with. */
	vtd_write64(unit, VTD_REG_QUEUE_TAIL, read64(unit, VTD_REG_QUEUE_HEAD));
	vtd_write32(unit, VTD_REG_FAULT_STATUS, VTD_FAULT_STATUS_QUEUE_ERROR);
	return command(unit, VTD_GLOBAL_QUEUE, false) && start_queue(unit);
}

static bool allocate(struct vtd_unit *unit)
{
	void *status;

	if (!arena_open(&unit->arena))
		return false;
	unit->root = arena_allocate(&unit->arena, SMALL_PAGE, SMALL_PAGE);
	unit->queue = arena_allocate(&unit->arena, VTD_QUEUE_LENGTH * sizeof(*unit->queue), SMALL_PAGE);
	status = arena_allocate(&unit->arena, sizeof(*unit->wait_status), sizeof(*unit->wait_status));
	unit->wait_status = status;
	return unit->root && unit->queue && status;
}

/* A program before this one may have left faults behind. */
static void clear_faults(struct vtd_unit *unit)
{
	struct vtd_fault fault;
	bool found = true;

	while (found && vtd_take_fault(unit, &fault, &found))
		;
	vtd_write32(unit, VTD_REG_FAULT_STATUS, VTD_FAULT_STATUS_OVERFLOW | VTD_FAULT_STATUS_QUEUE_ERROR);
}

bool vtd_open(struct vtd_unit *unit)
{
	memset(unit, 0, sizeof(*unit));
	if (!vtd_find(&unit->base) || !map_registers(unit) || !check_unit(unit) || !allocate(unit))
		return false;
	clear_faults(unit);
	vtd_write64(unit, VTD_REG_ROOT_TABLE, arena_physical(&unit->arena, unit->root));
	return start_queue(unit) && command(unit, VTD_GLOBAL_ROOT_TABLE, true) && vtd_flush_all_contexts(unit) &&
	       vtd_flush_all(unit) && command(unit, VTD_GLOBAL_TRANSLATION, true);
}

static bool detach_all(struct vtd_unit *unit)
{
	for (size_t bus = 0; bus < sizeof(unit->contexts) / sizeof(unit->contexts[0]); bus++) {
		for (size_t i = 0; unit->contexts[bus] && i < SMALL_PAGE / sizeof(uint64_t); i += ENTRY_WORDS)
			vtd_store(&unit->contexts[bus][i], 0);
	}
	return vtd_flush_all_contexts(unit) && vtd_flush_all(unit);
}

bool vtd_close(struct vtd_unit *unit)
{
	bool done = true;

	if (unit->registers && unit->queue) {
		if (vtd_read32(unit, VTD_REG_FAULT_STATUS) & VTD_FAULT_STATUS_QUEUE_ERROR)
			done = vtd_restart_queue(unit);
		done = done && detach_all(unit);
		/* Also where something went wrong: the unit must let go of memory that is about to go. */
		done = command(unit, VTD_GLOBAL_TRANSLATION, false) && done;
		done = command(unit, VTD_GLOBAL_QUEUE, false) && done;
		vtd_write32(unit, VTD_REG_COMPLETION_CONTROL, VTD_EVENT_MASKED);
		clear_faults(unit);
	}
	if (unit->registers)
		munmap((void *)unit->registers, VTD_REGISTER_BYTES);
	arena_close(&unit->arena);
	memset(unit, 0, sizeof(*unit));
	return done;
}

void vtd_add(struct vtd_unit *unit, struct vtd_descriptor descriptor)
{
	unit->queue[unit->tail] = descriptor;
	unit->tail = (unit->tail + 1) % VTD_QUEUE_LENGTH;
}

void vtd_submit(struct vtd_unit *unit)
{
	/* Descriptors and tables must be in memory before the unit is told to look. */
	__sync_synchronize();
	vtd_write64(unit, VTD_REG_QUEUE_TAIL, (uint64_t)unit->tail * sizeof(*unit->queue));
}

bool vtd_wait(struct vtd_unit *unit)
{
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;
	uint32_t wanted = ++unit->wait_value;

	vtd_add(unit, (struct vtd_descriptor){
			      .low = VTD_DESCRIPTOR_WAIT | VTD_WAIT_STATUS_WRITE | (uint64_t)wanted << 32,
			      .high = arena_physical(&unit->arena, (const void *)unit->wait_status),
		      });
	vtd_submit(unit);
	while (*unit->wait_status != wanted) {
		uint32_t status = vtd_read32(unit, VTD_REG_FAULT_STATUS);

		if (status & VTD_FAULT_STATUS_QUEUE_ERROR)
			return failed("the invalidation queue stopped at an error: fault status 0x%08x", status);
		if (now_ms() > deadline)
			return failed("expected invalidations to be complete within %d ms", ANSWER_DEADLINE_MS);
		pause_briefly();
	}
	return true;
}

static bool invalidate(struct vtd_unit *unit, uint64_t low, uint64_t high)
{
	vtd_add(unit, (struct vtd_descriptor){ low, high });
	return vtd_wait(unit);
}

bool vtd_flush_all(struct vtd_unit *unit)
{
	return invalidate(unit,
			  VTD_DESCRIPTOR_IOTLB | VTD_GRANULARITY_GLOBAL | VTD_IOTLB_DRAIN_READS | VTD_IOTLB_DRAIN_WRITES,
			  0);
}

bool vtd_flush_domain(struct vtd_unit *unit, uint16_t domain)
{
	return invalidate(unit,
			  VTD_DESCRIPTOR_IOTLB | VTD_GRANULARITY_DOMAIN | VTD_IOTLB_DRAIN_READS |
				  VTD_IOTLB_DRAIN_WRITES | VTD_DESCRIPTOR_DOMAIN(domain),
			  0);
}

bool vtd_flush_pages(struct vtd_unit *unit, uint16_t domain, uint64_t iova, uint64_t pages, bool leaf_only)
{
	uint64_t first = iova / SMALL_PAGE, last = first + pages - 1, mask = 0;

	/* The smallest power of two, on its own border, that has them all. */
	while (first >> mask != last >> mask)
		mask++;
	if (mask > VTD_CAP_MAX_ADDRESS_MASK(unit->capability))
		return vtd_flush_domain(unit, domain);
	return invalidate(unit,
			  VTD_DESCRIPTOR_IOTLB | VTD_GRANULARITY_SELECTIVE | VTD_IOTLB_DRAIN_READS |
				  VTD_IOTLB_DRAIN_WRITES | VTD_DESCRIPTOR_DOMAIN(domain),
			  (first >> mask << mask) * SMALL_PAGE | (leaf_only ? VTD_IOTLB_LEAF_ONLY : 0) | mask);
}

bool vtd_flush_all_contexts(struct vtd_unit *unit)
{
	return invalidate(unit, VTD_DESCRIPTOR_CONTEXT | VTD_GRANULARITY_GLOBAL, 0);
}

bool vtd_flush_context(struct vtd_unit *unit, uint16_t requester_id, uint16_t domain)
{
	return invalidate(unit,
			  VTD_DESCRIPTOR_CONTEXT | VTD_GRANULARITY_SELECTIVE | VTD_DESCRIPTOR_DOMAIN(domain) |
				  VTD_CONTEXT_SOURCE(requester_id),
			  0);
}

uint64_t *vtd_context(struct vtd_unit *unit, uint16_t requester_id)
{
	unsigned bus = requester_id >> 8;

	if (!unit->contexts[bus]) {
		unit->contexts[bus] = arena_allocate(&unit->arena, SMALL_PAGE, SMALL_PAGE);
		if (!unit->contexts[bus])
			return NULL;
		vtd_store(&unit->root[bus * ENTRY_WORDS],
			  arena_physical(&unit->arena, unit->contexts[bus]) | VTD_ENTRY_PRESENT);
	}
	return &unit->contexts[bus][(requester_id & 0xff) * ENTRY_WORDS];
}

bool vtd_take_fault(struct vtd_unit *unit, struct vtd_fault *fault, bool *found)
{
	uint32_t records = VTD_CAP_FAULT_RECORDS(unit->capability);
	/* The unit fills them in a circle; FSTS says where the oldest is. */
	uint32_t oldest = vtd_read32(unit, VTD_REG_FAULT_STATUS) >> 8 & 0xff;

	*found = false;
	for (uint32_t i = 0; i < records && !*found; i++) {
		uint32_t at = (uint32_t)VTD_CAP_FAULT_OFFSET(unit->capability) +
			      (oldest + i) % records * VTD_FAULT_RECORD_BYTES;
		uint64_t high = read64(unit, at + 8);

		if (!(high & VTD_FAULT_HIGH_VALID))
			continue;
		*fault = (struct vtd_fault){
			.requester_id = VTD_FAULT_HIGH_SOURCE(high),
			.iova = read64(unit, at) & VTD_ENTRY_ADDRESS,
			.reason = VTD_FAULT_HIGH_REASON(high),
			.write = !(high & VTD_FAULT_HIGH_READ),
		};
		/* Written back, the bit goes. */
		vtd_write32(unit, at + 12, (uint32_t)(VTD_FAULT_HIGH_VALID >> 32));
		*found = true;
	}
	return true;
}
