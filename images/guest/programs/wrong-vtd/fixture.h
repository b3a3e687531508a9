/* What a case runs with: a unit that translates, edu devices that are attached to nothing yet, and memory. */
#ifndef WRONG_VTD_FIXTURE_H
#define WRONG_VTD_FIXTURE_H

#include "edu/edu.h"
#include "memory/arena.h"
#include "memory/patterns.h"
#include "pci/devices.h"
#include "report/report.h"
#include "vtd/domain.h"

#define MAX_EDUS 2
#define MAX_DOMAINS 4

/* What memory holds that no DMA may change. */
#define GUARD 0xa5
/* Small enough to stay within one page: one refused access, one fault. */
#define REFUSED_BYTES 64

/* Where cases map things: addresses that no memory of the guest has. */
#define SOURCE_IOVA 0x41000000ull
#define TARGET_IOVA 0x42000000ull
#define OTHER_IOVA 0x43000000ull

struct device {
	struct pci_function function;
	struct edu edu;
	uint16_t requester_id;
};

struct fixture {
	const struct pci_addresses *edus;
	bool skip;
	struct vtd_unit unit;
	struct arena arena;
	struct device devices[MAX_EDUS];
	size_t device_count;
	struct vtd_domain domains[MAX_DOMAINS];
	size_t domain_count;
};

bool fixture_begin(struct fixture *fixture, const struct pci_addresses *edus);

/* Also after a failed fixture_begin(). Nothing is mapped or attached afterwards, and everything was flushed. */
bool fixture_end(struct fixture *fixture);

/* Opens the next edu. Its DMA engine is taken to drive all address lines. NULL, with failed() called, when that does not work. */
struct device *use_edu(struct fixture *fixture);

/* Pages that lie side by side. NULL, with failed() called, when there is no room. */
uint8_t *use_pages(struct fixture *fixture, size_t count);
uint64_t physical_of(const struct fixture *fixture, const void *memory);

/* An empty domain, with an id that no other case in this start of the guest has had. NULL, with failed() called: no room. */
struct vtd_domain *use_domain(struct fixture *fixture, unsigned levels);

/* The machine lacks what the case needs: `return skipped(fixture, "why")`. */
bool skipped(struct fixture *fixture, const char *why);

/* Something in memory, and where a device finds it. */
struct place {
	uint64_t iova;
	uint8_t *memory;
};

/* A device in a domain of four levels, with a page that it may read and one that it may write. */
struct setting {
	struct device *device;
	struct vtd_domain *domain;
	struct place source, target;
};

bool use_setting(struct fixture *fixture, struct setting *setting);

/* Makes the page of fresh memory that the device finds at `iova`. */
bool use_place(struct fixture *fixture, struct vtd_domain *domain, uint64_t iova, uint64_t permissions,
	       struct place *place);
bool map_place(struct fixture *fixture, struct vtd_domain *domain, struct place place, uint64_t permissions);

/* Unmaps both pages, detaches the device, flushes. */
bool leave_setting(const struct setting *setting);

/* The device moves a page of a fresh pattern from `from` to `to`. */
bool moves(struct device *device, struct place from, struct place to);
/* The same within the setting. */
bool setting_works(const struct setting *setting);

/* The device writes at `iova`: the bytes arrive in `memory`, which is where they should not. No fault. */
bool write_lands(struct fixture *fixture, struct device *device, uint64_t iova, uint8_t *memory);

/* The device writes at the place, and memory stays as it was. Fault: this reason, or none where it is 0. */
bool write_refused(struct fixture *fixture, struct device *device, struct place victim, uint8_t reason);
/* The same for a read. */
bool read_refused(struct fixture *fixture, struct device *device, uint64_t iova, uint8_t reason);

bool expect_fault(struct fixture *fixture, const struct device *device, uint64_t iova, bool write, uint8_t reason);
bool no_fault(struct fixture *fixture);

/* Facts "iova", "domain" and "requesterId", by which the findings of this case can be told. */
void fact_access(const struct device *device, const struct vtd_domain *domain, uint64_t iova);

#endif
