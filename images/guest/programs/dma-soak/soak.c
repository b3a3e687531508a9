#include "soak.h"

#include "memory/patterns.h"
#include "report/report.h"

#include <string.h>

/* Below 256 MiB, which is what the documented edu device can address. Slots are used again and again. */
#define SMALL_BASE 0x01000000ull
#define SLOTS 24u
#define SLOT_PAGES 8u
#define LARGE_BASE 0x08000000ull
#define LARGE_SLOTS 4u

#define POOL_PAGES (LARGE_PAGE / SMALL_PAGE)
/* Of the two sorts: buffers of small pages, and the one huge page. */
#define MAX_BUFFERS 20u
#define NONE SIZE_MAX
#define FULL_CHECK_STEPS 256u

struct buffer {
	bool used, large, writable;
	size_t domain;
	uint64_t iova;
	size_t pages;
	uint8_t *memory[SLOT_PAGES]; /* by page; a large one's first only */
};

static struct arena pool, large;
static struct buffer buffers[MAX_BUFFERS];
static bool page_used[POOL_PAGES];
/* What every byte of the memory must be: that of the pool, then that of the huge page. */
static uint8_t expected[2][LARGE_PAGE];
static size_t domain_of[MAX_DEVICES];
static size_t devices;
static uint64_t random_state;
static const struct backend *iommu;
static struct soak_counts *count;

uint64_t soak_physical(const void *memory)
{
	const uint8_t *at = memory;

	return arena_physical(at >= large.memory && at < large.memory + LARGE_PAGE ? &large : &pool, memory);
}

static uint64_t next_random(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1dull >> 11;
}

static size_t below(size_t limit)
{
	return (size_t)(next_random() % limit);
}

static uint8_t *shadow(const uint8_t *memory)
{
	return memory >= large.memory && memory < large.memory + LARGE_PAGE ? expected[1] + (memory - large.memory) :
									      expected[0] + (memory - pool.memory);
}

static uint64_t size_of(const struct buffer *buffer)
{
	return buffer->large ? LARGE_PAGE : buffer->pages * SMALL_PAGE;
}

/* The memory behind an offset, and how many bytes lie there in one piece. */
static uint8_t *memory_at(const struct buffer *buffer, uint64_t offset, uint64_t *bytes)
{
	if (buffer->large) {
		*bytes = LARGE_PAGE - offset;
		return buffer->memory[0] + offset;
	}
	*bytes = SMALL_PAGE - offset % SMALL_PAGE;
	return buffer->memory[offset / SMALL_PAGE] + offset % SMALL_PAGE;
}

/* The processor writes something new everywhere. */
static void refill(const struct buffer *buffer)
{
	for (uint64_t at = 0, bytes; at < size_of(buffer); at += bytes) {
		uint8_t *memory = memory_at(buffer, at, &bytes);

		fill_pattern(memory, bytes, next_random());
		memcpy(shadow(memory), memory, bytes);
	}
}

static bool check(const struct buffer *buffer, uint64_t offset, uint64_t length, const char *what)
{
	for (uint64_t at = offset, bytes; at < offset + length; at += bytes) {
		uint8_t *memory = memory_at(buffer, at, &bytes);

		if (bytes > offset + length - at)
			bytes = offset + length - at;
		TRY(same_bytes(shadow(memory), memory, bytes, what));
	}
	return true;
}

static bool check_everything(void)
{
	return same_bytes(expected[0], pool.memory, LARGE_PAGE, "all small pages") &&
	       same_bytes(expected[1], large.memory, LARGE_PAGE, "the huge page");
}

/* A device is in it, or its mappings would belong to nobody. */
static bool in_use(size_t domain)
{
	for (size_t i = 0; i < devices; i++) {
		if (domain_of[i] == domain)
			return true;
	}
	return false;
}

static bool is_free(size_t domain, uint64_t iova)
{
	for (size_t i = 0; i < MAX_BUFFERS; i++) {
		if (buffers[i].used && buffers[i].domain == domain && buffers[i].iova == iova)
			return false;
	}
	return true;
}

/* In no order, so that what lies side by side for the device does not in memory. */
static void take_pages(struct buffer *buffer)
{
	for (size_t i = 0; i < buffer->pages; i++) {
		size_t page = below(POOL_PAGES);

		while (page_used[page])
			page = (page + 1) % POOL_PAGES;
		page_used[page] = true;
		buffer->memory[i] = pool.memory + page * SMALL_PAGE;
	}
}

static bool map_large(struct buffer *buffer, size_t domain)
{
	for (size_t i = 0; i < MAX_BUFFERS; i++) {
		if (buffers[i].used && buffers[i].large)
			return true;
	}
	*buffer = (struct buffer){ .used = true, .large = true, .writable = below(4) != 0, .domain = domain,
				   .iova = LARGE_BASE + below(LARGE_SLOTS) * LARGE_PAGE, .memory = { large.memory } };
	refill(buffer);
	count->large++;
	return iommu->map_large(domain, buffer->iova, large.memory, buffer->writable);
}

static bool map_something(void)
{
	size_t domain = below(iommu->domains), slot = NONE;
	uint64_t iova = SMALL_BASE + below(SLOTS) * SLOT_PAGES * SMALL_PAGE;

	for (size_t i = 0; i < MAX_BUFFERS; i++) {
		if (!buffers[i].used)
			slot = i;
	}
	if (slot == NONE || !in_use(domain))
		return true;
	if (below(16) == 0)
		return map_large(&buffers[slot], domain);
	if (!is_free(domain, iova))
		return true;
	buffers[slot] = (struct buffer){ .used = true, .writable = below(4) != 0, .domain = domain, .iova = iova,
					 .pages = 1 + below(SLOT_PAGES) };
	take_pages(&buffers[slot]);
	refill(&buffers[slot]);
	count->maps++;
	return iommu->map(domain, iova, buffers[slot].memory, buffers[slot].pages, buffers[slot].writable);
}

static bool unmap(struct buffer *buffer)
{
	TRY(buffer->large ? iommu->unmap_large(buffer->domain, buffer->iova) :
			    iommu->unmap(buffer->domain, buffer->iova, buffer->pages));
	for (size_t i = 0; i < buffer->pages; i++)
		page_used[(size_t)(buffer->memory[i] - pool.memory) / SMALL_PAGE] = false;
	buffer->used = false;
	count->unmaps++;
	return true;
}

static bool unmap_something(void)
{
	struct buffer *buffer = &buffers[below(MAX_BUFFERS)];

	return !buffer->used || unmap(buffer);
}

static bool attach(size_t device)
{
	size_t domain = iommu->own_domains ? device : below(iommu->domains);

	TRY(iommu->attach(device, domain));
	domain_of[device] = domain;
	count->attaches++;
	return true;
}

/* The last device to leave a domain leaves it empty. */
static bool detach(size_t device)
{
	size_t domain = domain_of[device];

	domain_of[device] = NONE;
	for (size_t i = 0; i < MAX_BUFFERS && !in_use(domain); i++) {
		if (buffers[i].used && buffers[i].domain == domain)
			TRY(unmap(&buffers[i]));
	}
	count->detaches++;
	return iommu->detach(device, domain);
}

/* A buffer of the domain, any one; NULL: none was met. */
static struct buffer *some_buffer(size_t domain, bool writable)
{
	size_t start = below(MAX_BUFFERS);

	for (size_t i = 0; i < MAX_BUFFERS; i++) {
		struct buffer *buffer = &buffers[(start + i) % MAX_BUFFERS];

		if (buffer->used && buffer->domain == domain && (buffer->writable || !writable))
			return buffer;
	}
	return NULL;
}

/* The device reads at one place and writes at another: exactly these bytes arrive, and nothing beside them changes. */
static bool transfer(size_t device)
{
	uint8_t bytes[EDU_BUFFER_SIZE];
	struct buffer *from = some_buffer(domain_of[device], false), *to = some_buffer(domain_of[device], true);
	uint64_t read_at, write_at;
	uint32_t length;

	if (!from || !to)
		return true;
	length = 1 + (uint32_t)below(below(2) ? EDU_BUFFER_SIZE : 64);
	read_at = below(size_of(from) - length + 1);
	write_at = below(size_of(to) - length + 1);
	for (uint64_t at = 0, piece; at < length; at += piece) {
		uint8_t *memory = memory_at(from, read_at + at, &piece);

		if (piece > length - at)
			piece = length - at;
		memcpy(bytes + at, shadow(memory), piece);
	}
	for (uint64_t at = 0, piece; at < length; at += piece) {
		uint8_t *memory = memory_at(to, write_at + at, &piece);

		if (piece > length - at)
			piece = length - at;
		memcpy(shadow(memory), bytes + at, piece);
	}
	TRY(edu_read(iommu->edu(device), from->iova + read_at, 0, length));
	TRY(edu_write(iommu->edu(device), to->iova + write_at, 0, length));
	count->transfers += 2;
	count->bytes += 2 * (uint64_t)length;
	return to->large ? check(to, write_at, length, "what was written in a large page") :
			   check(to, 0, size_of(to), "the buffer that was written to");
}

static bool step(void)
{
	size_t device = below(devices), choice = below(100);

	if (domain_of[device] == NONE)
		return attach(device);
	if (choice < 1)
		return detach(device);
	if (choice < 20)
		return map_something();
	if (choice < 35)
		return unmap_something();
	if (choice < 40 && buffers[choice % MAX_BUFFERS].used)
		refill(&buffers[choice % MAX_BUFFERS]);
	return transfer(device);
}

static bool run(uint64_t milliseconds)
{
	uint64_t end = now_ms() + milliseconds;

	for (; now_ms() < end; count->steps++) {
		TRY(step());
		if (count->steps % FULL_CHECK_STEPS == 0)
			TRY(check_everything());
	}
	for (size_t i = 0; i < devices; i++) {
		if (domain_of[i] != NONE)
			TRY(detach(i));
	}
	return check_everything();
}

bool soak(const struct backend *backend, const struct pci_addresses *edus, uint64_t seed, uint64_t milliseconds,
	  struct soak_counts *counts)
{
	bool done;

	iommu = backend;
	count = counts;
	/* The state must not be 0. */
	random_state = seed * 0x9e3779b97f4a7c15ull | 1;
	devices = edus->count < MAX_DEVICES ? edus->count : MAX_DEVICES;
	for (size_t i = 0; i < MAX_DEVICES; i++)
		domain_of[i] = NONE;
	done = arena_open(&pool) && arena_open(&large) && backend->open(edus) && run(milliseconds);
	/* What went wrong first is what counts. */
	if (done)
		done = backend->close();
	else
		backend->close();
	arena_close(&pool);
	arena_close(&large);
	return done;
}
