#include "fixture.h"

#include "pci/sysfs.h"

#include <string.h>
#include <unistd.h>

/* Each process takes its own part of the ids, by its process id. */
#define IDS_PER_PROCESS 128u
#define DOMAIN_IDS 0xfff0u

static uint64_t next_seed = 1;
static unsigned used_ids;

static unsigned long long printable(uint64_t value)
{
	return value;
}

bool fixture_begin(struct fixture *fixture, const struct pci_addresses *edus)
{
	memset(fixture, 0, sizeof(*fixture));
	fixture->edus = edus;
	return arena_open(&fixture->arena) && vtd_open(&fixture->unit);
}

bool fixture_end(struct fixture *fixture)
{
	bool done = true;

	if (fixture->unit.queue && vtd_read32(&fixture->unit, VTD_REG_FAULT_STATUS) & VTD_FAULT_STATUS_QUEUE_ERROR)
		done = vtd_restart_queue(&fixture->unit);
	for (size_t i = 0; done && i < fixture->domain_count; i++)
		done = vtd_domain_clear(&fixture->domains[i]);
	/* Devices before translation goes: none may send anything once it is off. */
	for (size_t i = 0; i < fixture->device_count; i++)
		pci_close(&fixture->devices[i].function);
	done = vtd_close(&fixture->unit) && done;
	arena_close(&fixture->arena);
	return done;
}

struct device *use_edu(struct fixture *fixture)
{
	size_t index = fixture->device_count;
	struct device *device = &fixture->devices[index];

	if (index == MAX_EDUS || index == fixture->edus->count) {
		failed("expected an edu device number %zu, seen %zu", index + 1, fixture->edus->count);
		return NULL;
	}
	fixture->device_count++;
	if (!pci_open(&device->function, fixture->edus->list[index]) || !edu_start(&device->edu, &device->function))
		return NULL;
	device->edu.last_iova = UINT64_MAX;
	device->requester_id = pci_requester_id(device->function.address);
	return device;
}

uint8_t *use_pages(struct fixture *fixture, size_t count)
{
	return arena_allocate(&fixture->arena, count * SMALL_PAGE, SMALL_PAGE);
}

uint64_t physical_of(const struct fixture *fixture, const void *memory)
{
	return arena_physical(&fixture->arena, memory);
}

struct vtd_domain *use_domain(struct fixture *fixture, unsigned levels)
{
	struct vtd_domain *domain = &fixture->domains[fixture->domain_count];
	unsigned id = ((unsigned)getpid() * IDS_PER_PROCESS + used_ids++) % DOMAIN_IDS + 1;

	if (fixture->domain_count == MAX_DOMAINS) {
		failed("a case takes more than %d domains", MAX_DOMAINS);
		return NULL;
	}
	if (!vtd_domain_create(domain, &fixture->unit, (uint16_t)id, levels))
		return NULL;
	fixture->domain_count++;
	return domain;
}

bool skipped(struct fixture *fixture, const char *why)
{
	fixture->skip = true;
	return failed("%s", why);
}

bool map_place(struct fixture *fixture, struct vtd_domain *domain, struct place place, uint64_t permissions)
{
	return vtd_map(domain, place.iova, physical_of(fixture, place.memory), SMALL_PAGE, permissions);
}

bool use_place(struct fixture *fixture, struct vtd_domain *domain, uint64_t iova, uint64_t permissions,
	       struct place *place)
{
	*place = (struct place){ iova, use_pages(fixture, 1) };
	return place->memory && map_place(fixture, domain, *place, permissions);
}

bool use_setting(struct fixture *fixture, struct setting *setting)
{
	setting->device = use_edu(fixture);
	setting->domain = use_domain(fixture, 4);
	TRY(setting->device && setting->domain);
	TRY(use_place(fixture, setting->domain, SOURCE_IOVA, VTD_READ, &setting->source));
	TRY(use_place(fixture, setting->domain, TARGET_IOVA, VTD_READ_WRITE, &setting->target));
	return vtd_attach(setting->domain, setting->device->requester_id);
}

bool leave_setting(const struct setting *setting)
{
	return vtd_unmap(setting->domain, setting->source.iova, SMALL_PAGE) &&
	       vtd_unmap(setting->domain, setting->target.iova, SMALL_PAGE) &&
	       vtd_detach(setting->domain, setting->device->requester_id);
}

bool moves(struct device *device, struct place from, struct place to)
{
	fill_pattern(from.memory, SMALL_PAGE, next_seed++);
	fill_byte(to.memory, SMALL_PAGE, GUARD);
	return edu_read(&device->edu, from.iova, 0, SMALL_PAGE) && edu_write(&device->edu, to.iova, 0, SMALL_PAGE) &&
	       same_bytes(from.memory, to.memory, SMALL_PAGE, "what the device moved");
}

bool setting_works(const struct setting *setting)
{
	return moves(setting->device, setting->source, setting->target);
}

bool write_lands(struct fixture *fixture, struct device *device, uint64_t iova, uint8_t *memory)
{
	uint8_t before[REFUSED_BYTES];

	fill_pattern(before, REFUSED_BYTES, next_seed++);
	memcpy(memory, before, REFUSED_BYTES);
	TRY(edu_write(&device->edu, iova, 0, REFUSED_BYTES));
	if (memcmp(memory, before, REFUSED_BYTES) == 0)
		return failed("expected what the device wrote at 0x%llx in the memory that was cached for it, seen it "
			      "unchanged",
			      printable(iova));
	return no_fault(fixture);
}

bool write_refused(struct fixture *fixture, struct device *device, struct place victim, uint8_t reason)
{
	fill_byte(victim.memory, REFUSED_BYTES, GUARD);
	TRY(edu_write(&device->edu, victim.iova, 0, REFUSED_BYTES));
	TRY(all_bytes(victim.memory, REFUSED_BYTES, GUARD, "memory after a write that must not arrive"));
	return reason == 0 ? no_fault(fixture) : expect_fault(fixture, device, victim.iova, true, reason);
}

bool read_refused(struct fixture *fixture, struct device *device, uint64_t iova, uint8_t reason)
{
	TRY(edu_read(&device->edu, iova, 0, REFUSED_BYTES));
	return reason == 0 ? no_fault(fixture) : expect_fault(fixture, device, iova, false, reason);
}

bool expect_fault(struct fixture *fixture, const struct device *device, uint64_t iova, bool write, uint8_t reason)
{
	/* A record has no more bits of the address than the unit translates. */
	uint64_t page = iova / SMALL_PAGE * SMALL_PAGE & 0xffffffffffffull;
	struct vtd_fault fault;
	bool found;

	TRY(vtd_take_fault(&fixture->unit, &fault, &found));
	if (!found)
		return failed("expected a fault of %s at 0x%llx, seen none", device->edu.address, printable(iova));
	if (fault.requester_id != device->requester_id || fault.iova != page || fault.write != write ||
	    fault.reason != reason)
		return failed("expected a fault of 0x%04x at 0x%llx, write %d, reason 0x%x; seen 0x%04x, 0x%llx, %d, 0x%x",
			      device->requester_id, printable(page), write, reason, fault.requester_id,
			      printable(fault.iova), fault.write, fault.reason);
	detail("fault 0x%x of %s, %s at 0x%llx", reason, device->edu.address, write ? "write" : "read",
	       printable(iova));
	return no_fault(fixture);
}

bool no_fault(struct fixture *fixture)
{
	struct vtd_fault fault;
	bool found;

	TRY(vtd_take_fault(&fixture->unit, &fault, &found));
	return !found || failed("expected no fault, seen one of 0x%04x at 0x%llx, reason 0x%x", fault.requester_id,
				printable(fault.iova), fault.reason);
}

void fact_access(const struct device *device, const struct vtd_domain *domain, uint64_t iova)
{
	fact_address("iova", iova);
	fact_number("domain", domain->id);
	fact_number("requesterId", device->requester_id);
}
