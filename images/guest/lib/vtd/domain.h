/* Second-stage page tables (VT-d specification, 3.7) and what is attached to them. Functions that return bool have called failed() on false. */
#ifndef LIB_VTD_DOMAIN_H
#define LIB_VTD_DOMAIN_H

#include "vtd/unit.h"

struct vtd_domain {
	struct vtd_unit *unit;
	uint16_t id;
	unsigned levels; /* 3 translate 39 bits of address, 4 translate 48 */
	uint64_t *root;
};

/* Empty. Its tables come from the unit's arena, and stay there. */
bool vtd_domain_create(struct vtd_domain *domain, struct vtd_unit *unit, uint16_t id, unsigned levels);

/* Unmaps everything, and flushes. */
bool vtd_domain_clear(struct vtd_domain *domain);

/* The entry for the address at a level, 1 for the last, with all tables above it made where they are missing. NULL: no room. */
uint64_t *vtd_entry(struct vtd_domain *domain, uint64_t iova, unsigned level);

/*
 * Maps `bytes`, in large pages where both addresses lie on their border. Flushes where the unit asks for it (caching mode). What was
 * mapped there before must have been unmapped, and flushed. `permissions`: VTD_READ, VTD_WRITE.
 */
bool vtd_map(struct vtd_domain *domain, uint64_t iova, uint64_t physical, uint64_t bytes, uint64_t permissions);

/* Clears the entries, in the sizes in which vtd_map() made them, and flushes nothing. */
bool vtd_clear(struct vtd_domain *domain, uint64_t iova, uint64_t bytes);

/* The same, and flushes what it cleared: the device is done with it on return. */
bool vtd_unmap(struct vtd_domain *domain, uint64_t iova, uint64_t bytes);

/* The requester's context entry, and nothing else: what is cached stays. NULL: not present. */
bool vtd_set_context(struct vtd_unit *unit, uint16_t requester_id, const struct vtd_domain *domain);

/* With the flush that the change takes. The requester must not be attached, or attached to this domain. */
bool vtd_attach(struct vtd_domain *domain, uint16_t requester_id);
bool vtd_detach(struct vtd_domain *domain, uint16_t requester_id);

#endif
