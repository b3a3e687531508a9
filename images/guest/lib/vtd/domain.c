#include "vtd/domain.h"

#include "report/report.h"

#define INDEX_BITS 9
#define INDEX_MASK ((1u << INDEX_BITS) - 1)
#define TABLE_ENTRIES (1u << INDEX_BITS)
#define SMALL_SHIFT 12
#define LARGE_LEVEL 2
/* Context entry, upper word: address width (1 is three levels), domain id. */
#define CONTEXT_DOMAIN_SHIFT 8

bool vtd_domain_create(struct vtd_domain *domain, struct vtd_unit *unit, uint16_t id, unsigned levels)
{
	*domain = (struct vtd_domain){ .unit = unit, .id = id, .levels = levels };
	domain->root = arena_allocate(&unit->arena, SMALL_PAGE, SMALL_PAGE);
	return domain->root != NULL;
}

bool vtd_domain_clear(struct vtd_domain *domain)
{
	for (unsigned i = 0; i < TABLE_ENTRIES; i++)
		vtd_store(&domain->root[i], 0);
	return vtd_flush_domain(domain->unit, domain->id);
}

uint64_t *vtd_entry(struct vtd_domain *domain, uint64_t iova, unsigned level)
{
	struct arena *arena = &domain->unit->arena;
	uint64_t *table = domain->root;

	for (unsigned at = domain->levels;; at--) {
		uint64_t *entry = &table[iova >> (SMALL_SHIFT + (at - 1) * INDEX_BITS) & INDEX_MASK];

		if (at == level)
			return entry;
		if (*entry == 0) {
			void *below = arena_allocate(arena, SMALL_PAGE, SMALL_PAGE);

			if (!below)
				return NULL;
			vtd_store(entry, arena_physical(arena, below) | VTD_READ_WRITE);
		}
		table = arena_virtual(arena, *entry & VTD_ENTRY_ADDRESS);
		if (!table || *entry & VTD_LARGE_PAGE) {
			failed("the entry 0x%llx at level %u for 0x%llx leads to no table of this program",
			       (unsigned long long)*entry, at, (unsigned long long)iova);
			return NULL;
		}
	}
}

/* Level 2 where a large page may begin at both addresses and fits. */
static unsigned level_of(uint64_t iova, uint64_t physical, uint64_t bytes)
{
	return ((iova | physical) & (LARGE_PAGE - 1)) == 0 && bytes >= LARGE_PAGE ? LARGE_LEVEL : 1;
}

bool vtd_map(struct vtd_domain *domain, uint64_t iova, uint64_t physical, uint64_t bytes, uint64_t permissions)
{
	for (uint64_t done = 0; done < bytes;) {
		unsigned level = level_of(iova + done, physical + done, bytes - done);
		uint64_t *entry = vtd_entry(domain, iova + done, level);

		if (!entry)
			return false;
		vtd_store(entry, (physical + done) | permissions | (level == LARGE_LEVEL ? VTD_LARGE_PAGE : 0));
		done += level == LARGE_LEVEL ? LARGE_PAGE : SMALL_PAGE;
	}
	return !vtd_caching_mode(domain->unit) ||
	       vtd_flush_pages(domain->unit, domain->id, iova, bytes / SMALL_PAGE, false);
}

bool vtd_clear(struct vtd_domain *domain, uint64_t iova, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes;) {
		uint64_t *entry = vtd_entry(domain, iova + done, LARGE_LEVEL);
		bool large = entry && *entry & VTD_LARGE_PAGE;

		if (!large)
			entry = vtd_entry(domain, iova + done, 1);
		if (!entry)
			return false;
		vtd_store(entry, 0);
		done += large ? LARGE_PAGE : SMALL_PAGE;
	}
	return true;
}

bool vtd_unmap(struct vtd_domain *domain, uint64_t iova, uint64_t bytes)
{
	return vtd_clear(domain, iova, bytes) &&
	       vtd_flush_pages(domain->unit, domain->id, iova, bytes / SMALL_PAGE, false);
}

bool vtd_set_context(struct vtd_unit *unit, uint16_t requester_id, const struct vtd_domain *domain)
{
	uint64_t *entry = vtd_context(unit, requester_id);

	if (!entry)
		return false;
	if (!domain) {
		vtd_store(&entry[0], 0);
		return true;
	}
	/* The word with the present bit last. */
	vtd_store(&entry[1], (uint64_t)domain->id << CONTEXT_DOMAIN_SHIFT | (domain->levels - 2));
	vtd_store(&entry[0], arena_physical(&unit->arena, domain->root) | VTD_ENTRY_PRESENT);
	return true;
}

bool vtd_attach(struct vtd_domain *domain, uint16_t requester_id)
{
	if (!vtd_set_context(domain->unit, requester_id, domain))
		return false;
	/* In caching mode what was not present is cached as of domain 0 (6.1). */
	return !vtd_caching_mode(domain->unit) ||
	       (vtd_flush_context(domain->unit, requester_id, 0) && vtd_flush_domain(domain->unit, domain->id));
}

bool vtd_detach(struct vtd_domain *domain, uint16_t requester_id)
{
	return vtd_set_context(domain->unit, requester_id, NULL) &&
	       vtd_flush_context(domain->unit, requester_id, domain->id) &&
	       vtd_flush_domain(domain->unit, domain->id);
}
