#include "fixture.h"

#include "report/report.h"

#include <stdio.h>
#include <string.h>

/*
 * Linux counts what it says of faults, three times for one that comes alone, and drops for good what is beyond ten in
 * five seconds (DEFAULT_RATELIMIT_INTERVAL and _BURST). So: when no report comes, let the device try again, for much
 * longer than that.
 */
#define FAULT_LOG_WAIT_MS 1000
#define FAULT_ATTEMPTS 18

void fixture_begin(struct fixture *fixture, char (*addresses)[16], size_t address_count)
{
	memset(fixture, 0, sizeof(*fixture));
	fixture->addresses = addresses;
	fixture->address_count = address_count;
	fixture->kmsg.fd = -1;
}

void fixture_end(struct fixture *fixture)
{
	kmsg_close(&fixture->kmsg);
	for (size_t i = 0; i < fixture->edu_count; i++)
		vfio_close(&fixture->functions[i]);
	for (size_t i = 0; i < fixture->buffer_count; i++)
		buffer_free(&fixture->buffers[i]);
}

struct edu *use_edu(struct fixture *fixture)
{
	size_t index = fixture->edu_count;
	struct edu *edu = &fixture->edus[index];

	if (index == MAX_EDUS || index == fixture->address_count) {
		failed("expected a device number %zu, seen %zu", index + 1, fixture->address_count);
		return NULL;
	}
	fixture->edu_count++;
	if (!vfio_open(&fixture->functions[index], fixture->addresses[index]))
		return NULL;
	return edu_start(edu, &fixture->functions[index].pci) ? edu : NULL;
}

struct vfio_function *vfio_of(struct fixture *fixture, const struct edu *edu)
{
	return &fixture->functions[edu - fixture->edus];
}

static struct dma_buffer *next_buffer(struct fixture *fixture)
{
	if (fixture->buffer_count == MAX_BUFFERS) {
		failed("a case takes more than %d buffers", MAX_BUFFERS);
		return NULL;
	}
	return &fixture->buffers[fixture->buffer_count++];
}

struct dma_buffer *use_unmapped(struct fixture *fixture, size_t size)
{
	struct dma_buffer *buffer = next_buffer(fixture);

	return buffer && buffer_allocate(buffer, size) ? buffer : NULL;
}

struct dma_buffer *use_buffer(struct fixture *fixture, struct edu *edu, size_t size, uint64_t iova, uint32_t access)
{
	struct dma_buffer *buffer = use_unmapped(fixture, size);

	return buffer && buffer_map(buffer, vfio_of(fixture, edu), iova, SMALL_PAGE, access) ? buffer : NULL;
}

struct dma_buffer *use_scattered(struct fixture *fixture, struct edu *edu, size_t size, uint64_t iova)
{
	struct dma_buffer *buffer = next_buffer(fixture);

	return buffer && buffer_allocate_scattered(buffer, size) &&
			       buffer_map(buffer, vfio_of(fixture, edu), iova, SMALL_PAGE, READ_WRITE)
		       ? buffer
		       : NULL;
}

struct dma_buffer *use_large(struct fixture *fixture, struct edu *edu, uint64_t iova)
{
	struct dma_buffer *buffer = next_buffer(fixture);

	return buffer && buffer_allocate_large(buffer) &&
			       buffer_map(buffer, vfio_of(fixture, edu), iova, LARGE_PAGE, READ_WRITE)
		       ? buffer
		       : NULL;
}

bool fact_buffer(const struct dma_buffer *buffer)
{
	struct dma_buffer first_page = { .memory = buffer->memory, .size = SMALL_PAGE };
	uint64_t physical;

	if (!buffer_physical(&first_page, &physical))
		return false;
	fact_address("iova", buffer->iova);
	fact_address("physical", physical);
	return true;
}

bool skipped(struct fixture *fixture, const char *why)
{
	fixture->skip = true;
	return failed("%s", why);
}

bool expect_fault(struct fixture *fixture, struct edu *edu, uint64_t iova, uint32_t count, bool write)
{
	const char *address = edu->address, *access = write ? "Write" : "Read";
	char line[KMSG_LINE];
	bool found = false, done = kmsg_open(&fixture->kmsg);
	int attempts = 0;

	while (done && !found && attempts < FAULT_ATTEMPTS) {
		attempts++;
		done = (write ? edu_write(edu, iova, 0, count) : edu_read(edu, iova, 0, count)) &&
		       kmsg_wait_fault(&fixture->kmsg, address, iova, write, FAULT_LOG_WAIT_MS, &found, line);
	}
	kmsg_close(&fixture->kmsg);
	if (!done)
		return false;
	if (!found)
		return failed("expected in the kernel's log a fault \"DMA %s\" of %s at 0x%llx, seen %s", access,
			      address, (unsigned long long)iova,
			      fixture->kmsg.last_fault[0] ? fixture->kmsg.last_fault : "no fault at all");
	fact_text(write ? "writeFault" : "readFault", line);
	detail("%s", line);
	return true;
}
