/* The guest kernel's own log, where its VT-d driver reports each fault. */
#ifndef DMA_DEMO_KMSG_H
#define DMA_DEMO_KMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KMSG_LINE 512

struct kmsg {
	int fd;
	char last_fault[KMSG_LINE]; /* the last fault line since the mark, matching or not */
};

/* Marks the present end of the log: nothing older is looked at. */
bool kmsg_open(struct kmsg *kmsg);
void kmsg_close(struct kmsg *kmsg);

/*
 * Waits for the line in which the kernel reports a fault of this function at this page in this direction, at most
 * `timeout_ms`. `*found` tells whether it came; `line` gets its text.
 */
bool kmsg_wait_fault(struct kmsg *kmsg, const char *address, uint64_t iova, bool write, int timeout_ms, bool *found,
		     char line[KMSG_LINE]);

#endif
