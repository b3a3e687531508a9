/*
 * A VT-d unit, driven from user space in a guest whose kernel leaves it alone (intel_iommu=off) and lets root map its registers
 * (iomem=relaxed). Legacy mode, queued invalidation. Functions that return bool have called failed() on false.
 */
#ifndef LIB_VTD_UNIT_H
#define LIB_VTD_UNIT_H

#include "memory/arena.h"
#include "vtd/registers.h"

#include <stdbool.h>

struct vtd_descriptor {
	uint64_t low, high;
};

#define VTD_QUEUE_LENGTH 256u

struct vtd_unit {
	volatile uint8_t *registers;
	uint64_t base;
	uint64_t capability;
	/* Holds the queue and every table. */
	struct arena arena;
	uint64_t *root;          /* two words an entry */
	uint64_t *contexts[256]; /* by bus; made when first needed */
	struct vtd_descriptor *queue;
	uint32_t tail; /* index of the next descriptor */
	volatile uint32_t *wait_status;
	uint32_t wait_value;
};

struct vtd_fault {
	uint16_t requester_id;
	uint64_t iova; /* of the page */
	uint8_t reason; /* VTD_FAULT_... */
	bool write;
};

/* Finds the unit in the ACPI table, gives it an empty root table and a queue, empties its caches and turns translation on. */
bool vtd_open(struct vtd_unit *unit);

/*
 * Also after a failed vtd_open(). Detaches whatever is attached, turns translation and the queue off and clears what is recorded.
 * Domains must be empty by then, see vtd_domain_clear(). False: the unit does not answer.
 */
bool vtd_close(struct vtd_unit *unit);

uint32_t vtd_read32(struct vtd_unit *unit, uint32_t offset);
void vtd_write32(struct vtd_unit *unit, uint32_t offset, uint32_t value);
void vtd_write64(struct vtd_unit *unit, uint32_t offset, uint64_t value);

/* The unit may hold on to what was not present: what becomes present must be invalidated too (6.1). */
bool vtd_caching_mode(const struct vtd_unit *unit);

/* Adds a descriptor to the queue without telling the unit. There must be room. */
void vtd_add(struct vtd_unit *unit, struct vtd_descriptor descriptor);
/* Tells the unit of what was added, and does not wait. */
void vtd_submit(struct vtd_unit *unit);
/* Adds a wait descriptor, submits, and waits until the unit has carried it out. */
bool vtd_wait(struct vtd_unit *unit);

/* The queue has stopped at an error: clears it and starts over with an empty queue. */
bool vtd_restart_queue(struct vtd_unit *unit);

/* Invalidations: each is carried out on return. */
bool vtd_flush_all(struct vtd_unit *unit);
bool vtd_flush_domain(struct vtd_unit *unit, uint16_t domain);
/*
 * `pages` small pages from `iova` on, or more: the unit takes powers of two, on their own border. `leaf_only` promises that no entry
 * above the last level was changed.
 */
bool vtd_flush_pages(struct vtd_unit *unit, uint16_t domain, uint64_t iova, uint64_t pages, bool leaf_only);
bool vtd_flush_all_contexts(struct vtd_unit *unit);
bool vtd_flush_context(struct vtd_unit *unit, uint16_t requester_id, uint16_t domain);

/* The two words of the requester's context entry, with the table above it made where it is missing. NULL: no room. */
uint64_t *vtd_context(struct vtd_unit *unit, uint16_t requester_id);

/* Takes the oldest fault that is recorded. `*found` tells whether there was one. */
bool vtd_take_fault(struct vtd_unit *unit, struct vtd_fault *fault, bool *found);

/* One store, which the unit sees at once or not at all. */
void vtd_store(uint64_t *entry, uint64_t value);

#endif
