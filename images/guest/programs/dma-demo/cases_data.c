/* Cases in which the bytes must arrive. */
#include "fixture.h"

#include "report/report.h"

#include <stdlib.h>
#include <string.h>

/* Where the buffers appear to the device: below 256 MiB, which is all that it can address. */
#define SOURCE_IOVA 0x01230000ull
#define TARGET_IOVA 0x04560000ull
#define LARGE_SOURCE_IOVA 0x08000000ull
#define LARGE_TARGET_IOVA 0x0a000000ull
#define PRIVATE_IOVA 0x06780000ull

/* What the memory around a transfer holds. */
#define GUARD 0xa5

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

bool case_device_reads(struct fixture *fixture)
{
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target;

	if (!edu)
		return false;
	source = use_buffer(fixture, edu, EDU_BUFFER_SIZE, SOURCE_IOVA, READ_ONLY);
	target = use_buffer(fixture, edu, EDU_BUFFER_SIZE, TARGET_IOVA, READ_WRITE);
	if (!source || !target || !fact_buffer(source))
		return false;
	fill_pattern(source->memory, EDU_BUFFER_SIZE, 1);
	fill_byte(target->memory, EDU_BUFFER_SIZE, GUARD);
	if (!edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) || !edu_write(edu, target->iova, 0, EDU_BUFFER_SIZE) ||
	    !same_bytes(source->memory, target->memory, EDU_BUFFER_SIZE, "what the device read"))
		return false;
	fact_number("bytes", EDU_BUFFER_SIZE);
	detail("%d bytes read at IOVA 0x%llx", EDU_BUFFER_SIZE, (unsigned long long)source->iova);
	return true;
}

bool case_device_writes(struct fixture *fixture)
{
	const uint32_t offset = 1001, count = 2003, from = 517;
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target;
	uint8_t expected[SMALL_PAGE];

	if (!edu)
		return false;
	source = use_buffer(fixture, edu, SMALL_PAGE, SOURCE_IOVA, READ_ONLY);
	target = use_buffer(fixture, edu, SMALL_PAGE, TARGET_IOVA, READ_WRITE);
	if (!source || !target || !fact_buffer(target))
		return false;
	fill_pattern(source->memory, SMALL_PAGE, 2);
	fill_byte(target->memory, SMALL_PAGE, GUARD);
	fill_byte(expected, SMALL_PAGE, GUARD);
	memcpy(expected + offset, source->memory + from, count);
	if (!edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) ||
	    !edu_write(edu, target->iova + offset, from, count) ||
	    !same_bytes(expected, target->memory, SMALL_PAGE, "the page that the device wrote into"))
		return false;
	fact_number("bytes", count);
	detail("%u bytes written at IOVA 0x%llx, and nothing around them", count,
	       (unsigned long long)(target->iova + offset));
	return true;
}

bool case_scattered(struct fixture *fixture)
{
	/* Odd figures: no chunk but the first begins where another page, word or cache line does. */
	const size_t size = 9 * SMALL_PAGE, start = 1237, chunk = 3001;
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target;
	uint64_t transfers = 0, crossings = 0;

	if (!edu)
		return false;
	source = use_scattered(fixture, edu, size, SOURCE_IOVA);
	target = use_scattered(fixture, edu, size, TARGET_IOVA);
	if (!source || !target || !fact_buffer(target))
		return false;
	fill_pattern(source->memory, size, 3);
	fill_byte(target->memory, size, GUARD);
	for (size_t at = start; at < size; at += chunk) {
		uint32_t count = (uint32_t)(size - at < chunk ? size - at : chunk);

		if (!edu_read(edu, source->iova + at, 0, count) || !edu_write(edu, target->iova + at, 0, count))
			return false;
		transfers++;
		crossings += at / SMALL_PAGE != (at + count - 1) / SMALL_PAGE;
	}
	if (!all_bytes(target->memory, start, GUARD, "memory before the transfers") ||
	    !same_bytes(source->memory + start, target->memory + start, size - start, "scattered memory"))
		return false;
	fact_number("pages", size / SMALL_PAGE);
	fact_number("transfers", 2 * transfers);
	fact_number("pageCrossings", 2 * crossings);
	detail("%zu bytes over %llu scattered pages, %llu transfers, %llu across a page border", size - start,
	       (unsigned long long)(size / SMALL_PAGE), (unsigned long long)(2 * transfers),
	       (unsigned long long)(2 * crossings));
	return true;
}

/* Does the large page lie in one piece, on its own border? Only then can the kernel map it in one piece. */
static bool is_one_large_page(const struct dma_buffer *buffer)
{
	size_t pages = LARGE_PAGE / SMALL_PAGE;
	uint64_t *addresses = calloc(pages, sizeof(*addresses));
	bool good;

	if (!addresses)
		return failed_errno("cannot allocate a list of %zu pages", pages);
	good = buffer_physical(buffer, addresses);
	if (good && addresses[0] % LARGE_PAGE != 0)
		good = failed("expected a huge page on a 2 MiB border, seen 0x%llx", (unsigned long long)addresses[0]);
	for (size_t i = 1; good && i < pages; i++) {
		if (addresses[i] != addresses[0] + i * SMALL_PAGE)
			good = failed("expected a huge page in one piece, seen a gap at page %zu", i);
	}
	free(addresses);
	return good;
}

bool case_large_pages(struct fixture *fixture)
{
	const uint64_t offsets[] = { 0, 3 * SMALL_PAGE + 1, LARGE_PAGE / 2 - 99, LARGE_PAGE - EDU_BUFFER_SIZE };
	const uint32_t counts[] = { EDU_BUFFER_SIZE, 777, 3333, EDU_BUFFER_SIZE };
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target;
	uint64_t last = 0;

	if (!edu)
		return false;
	source = use_large(fixture, edu, LARGE_SOURCE_IOVA);
	target = use_large(fixture, edu, LARGE_TARGET_IOVA);
	if (!source || !target || !is_one_large_page(source) || !is_one_large_page(target) || !fact_buffer(target))
		return false;
	fill_pattern(source->memory, LARGE_PAGE, 4);
	fill_byte(target->memory, LARGE_PAGE, GUARD);
	for (size_t i = 0; i < COUNT_OF(offsets); i++) {
		if (!edu_read(edu, source->iova + offsets[i], 0, counts[i]) ||
		    !edu_write(edu, target->iova + offsets[i], 0, counts[i]) ||
		    !all_bytes(target->memory + last, offsets[i] - last, GUARD, "memory between the transfers") ||
		    !same_bytes(source->memory + offsets[i], target->memory + offsets[i], counts[i], "large page"))
			return false;
		last = offsets[i] + counts[i];
	}
	fact_number("pageSize", LARGE_PAGE);
	fact_number("transfers", 2 * COUNT_OF(offsets));
	detail("%zu transfers in 2 MiB pages at IOVA 0x%llx and 0x%llx", 2 * COUNT_OF(offsets),
	       (unsigned long long)source->iova, (unsigned long long)target->iova);
	return true;
}

/* The first page is what the device reads, the second is where it writes it. */
static struct dma_buffer *use_page_pair(struct fixture *fixture, struct edu *edu, uint64_t seed)
{
	struct dma_buffer *buffer = use_buffer(fixture, edu, 2 * SMALL_PAGE, SOURCE_IOVA, READ_WRITE);

	if (buffer) {
		fill_pattern(buffer->memory, SMALL_PAGE, seed);
		fill_byte(buffer->memory + SMALL_PAGE, SMALL_PAGE, GUARD);
	}
	return buffer;
}

bool case_two_domains(struct fixture *fixture)
{
	const uint32_t count = EDU_BUFFER_SIZE;
	struct edu *first, *second;
	struct dma_buffer *a, *b, *private_page;

	if (fixture->address_count < 2)
		return skipped(fixture, "the case needs two devices");
	first = use_edu(fixture);
	second = first ? use_edu(fixture) : NULL;
	if (!second)
		return false;
	a = use_page_pair(fixture, first, 5);
	b = a ? use_page_pair(fixture, second, 6) : NULL;
	private_page = b ? use_buffer(fixture, first, SMALL_PAGE, PRIVATE_IOVA, READ_WRITE) : NULL;
	if (!private_page || !fact_buffer(a))
		return false;
	if (a->iova != b->iova)
		return failed("expected one IOVA in both domains, seen 0x%llx and 0x%llx", (unsigned long long)a->iova,
			      (unsigned long long)b->iova);
	if (!edu_read(first, a->iova, 0, count) || !edu_read(second, b->iova, 0, count) ||
	    !edu_write(first, a->iova + SMALL_PAGE, 0, count) || !edu_write(second, b->iova + SMALL_PAGE, 0, count) ||
	    !same_bytes(a->memory, a->memory + SMALL_PAGE, count, "the first device's memory") ||
	    !same_bytes(b->memory, b->memory + SMALL_PAGE, count, "the second device's memory"))
		return false;

	/* What is the first device's alone is closed to the second, even right after the first has used it. */
	if (!edu_write(first, private_page->iova, 0, count))
		return false;
	fill_byte(private_page->memory, SMALL_PAGE, GUARD);
	if (!expect_fault(fixture, second, private_page->iova, 64, true) ||
	    !all_bytes(private_page->memory, SMALL_PAGE, GUARD, "the first device's private page"))
		return false;
	fact_text("devices", second->address);
	detail("%s and %s at the same IOVA 0x%llx reached their own memory only", first->address,
	       second->address, (unsigned long long)a->iova);
	return true;
}

bool case_remap(struct fixture *fixture)
{
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *before, *after;
	uint64_t iova;

	if (!edu)
		return false;
	source = use_buffer(fixture, edu, SMALL_PAGE, SOURCE_IOVA, READ_ONLY);
	before = use_buffer(fixture, edu, SMALL_PAGE, TARGET_IOVA, READ_WRITE);
	after = use_unmapped(fixture, SMALL_PAGE);
	if (!source || !before || !after || !fact_buffer(before))
		return false;
	iova = before->iova;
	fill_pattern(source->memory, SMALL_PAGE, 7);
	fill_byte(after->memory, SMALL_PAGE, GUARD);
	if (!edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) || !edu_write(edu, iova, 0, EDU_BUFFER_SIZE) ||
	    !same_bytes(source->memory, before->memory, SMALL_PAGE, "the old memory before the change"))
		return false;

	fill_byte(before->memory, SMALL_PAGE, GUARD);
	if (!buffer_unmap(before) || !buffer_map(after, vfio_of(fixture, edu), iova, SMALL_PAGE, READ_WRITE))
		return false;
	if (after->iova != iova)
		return failed("expected the new memory at IOVA 0x%llx, seen it at 0x%llx: its physical address is the "
			      "same number",
			      (unsigned long long)iova, (unsigned long long)after->iova);
	if (!edu_write(edu, iova, 0, EDU_BUFFER_SIZE) ||
	    !same_bytes(source->memory, after->memory, SMALL_PAGE, "the new memory") ||
	    !all_bytes(before->memory, SMALL_PAGE, GUARD, "the old memory after the change"))
		return false;
	detail("IOVA 0x%llx led to the new memory at once, the old was left alone", (unsigned long long)iova);
	return true;
}
