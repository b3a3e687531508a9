#define _GNU_SOURCE
#include "kmsg.h"

#include "memory.h"
#include "report/report.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The longest record that /dev/kmsg hands out (CONSOLE_EXT_LOG_MAX in older kernels, PRINTKRB_RECORD_MAX + prefix). */
#define MAX_RECORD 8192

bool kmsg_open(struct kmsg *kmsg)
{
	kmsg->last_fault[0] = '\0';
	kmsg->fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg->fd < 0)
		return failed_errno("cannot open /dev/kmsg");
	if (lseek(kmsg->fd, 0, SEEK_END) < 0)
		return failed_errno("cannot go to the end of /dev/kmsg");
	return true;
}

void kmsg_close(struct kmsg *kmsg)
{
	if (kmsg->fd >= 0)
		close(kmsg->fd);
	kmsg->fd = -1;
}

/*
 * Linux 6.12, drivers/iommu/intel/dmar.c:
 * "DMAR: [DMA Write NO_PASID] Request device [01:00.0] fault addr 0x1000 [fault reason 0x05] ..."; with a PASID
 * "[DMA Write PASID 0x7]".
 */
static bool parse_fault(const char *line, char device[16], uint64_t *address, bool *write)
{
	const char *text = strstr(line, "DMAR: [DMA ");
	unsigned long long value;

	if (!text)
		return false;
	text += strlen("DMAR: [DMA ");
	*write = strncmp(text, "Write", strlen("Write")) == 0;
	if (!*write && strncmp(text, "Read", strlen("Read")) != 0)
		return false;
	text = strstr(text, "Request device [");
	if (!text || sscanf(text, "Request device [%15[^]]] fault addr %llx", device, &value) != 2)
		return false;
	*address = value;
	return true;
}

static bool is_wanted(const char *line, const char *address, uint64_t iova, bool write)
{
	char device[16];
	/* The kernel leaves the segment out: 01:00.0 of 0000:01:00.0. */
	const char *short_address = strchr(address, ':') + 1;
	uint64_t seen;
	bool seen_write;

	return parse_fault(line, device, &seen, &seen_write) && strcmp(device, short_address) == 0 &&
	       seen / SMALL_PAGE == iova / SMALL_PAGE && seen_write == write;
}

/* Reads one record into `line`. Returns 1, 0 when there is none yet, -1 on an error. */
static int next_record(struct kmsg *kmsg, char line[KMSG_LINE])
{
	char record[MAX_RECORD + 1];
	ssize_t length;
	char *text;

	/* EPIPE: records were overwritten before they were read; the next read goes on after the gap. */
	do {
		length = read(kmsg->fd, record, MAX_RECORD);
	} while (length < 0 && (errno == EPIPE || errno == EINTR));
	if (length < 0 && errno == EAGAIN)
		return 0;
	if (length <= 0) {
		failed_errno("cannot read /dev/kmsg");
		return -1;
	}
	record[length] = '\0';
	/* "priority,sequence,time,flags;text\n KEY=value\n..." */
	text = strchr(record, ';');
	text = text ? text + 1 : record;
	text[strcspn(text, "\n")] = '\0';
	snprintf(line, KMSG_LINE, "%.*s", KMSG_LINE - 1, text);
	return 1;
}

bool kmsg_wait_fault(struct kmsg *kmsg, const char *address, uint64_t iova, bool write, int timeout_ms, bool *found,
		     char line[KMSG_LINE])
{
	uint64_t deadline = now_ms() + (uint64_t)timeout_ms, now;

	*found = false;
	while (!*found) {
		int got = next_record(kmsg, line);

		if (got < 0)
			return false;
		if (got == 0) {
			struct pollfd wait = { .fd = kmsg->fd, .events = POLLIN };

			now = now_ms();
			if (now >= deadline)
				return true;
			if (poll(&wait, 1, (int)(deadline - now)) < 0 && errno != EINTR)
				return failed_errno("cannot wait for /dev/kmsg");
			continue;
		}
		if (strstr(line, "DMAR: [DMA "))
			memcpy(kmsg->last_fault, line, KMSG_LINE);
		*found = is_wanted(line, address, iova, write);
	}
	return true;
}
