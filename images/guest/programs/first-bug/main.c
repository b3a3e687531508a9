/*
 * first-bug: a driver with a bug of the kind that real ones have. It receives numbered messages from a card and says which ones it
 * misses. Run it in the guest, as root. Exit status: 0 all messages came, 1 some did not, or a call failed, 2 wrong use.
 */
#define _GNU_SOURCE
#include "card.h"
#include "memory/physical.h"
#include "pci/devices.h"
#include "receiver.h"
#include "report/report.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define EXIT_USAGE 2
#define MESSAGES 24
#define WIRE_IOVA 0x01000000ull
#define RING_IOVA 0x02000000ull

struct outcome_count {
	unsigned int received, missing;
};

static int usage(FILE *stream)
{
	fprintf(stream, "usage: first-bug [--fixed]\n"
			"  --fixed      without the bug\n");
	return stream == stdout ? EXIT_SUCCESS : EXIT_USAGE;
}

/* What the other end of the network has sent. */
static bool fill_wire(struct vfio_function *function)
{
	char *wire = mmap(NULL, SMALL_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (wire == MAP_FAILED)
		return failed_errno("cannot allocate a page");
	for (unsigned int i = 0; i < CARD_MESSAGES; i++)
		snprintf(wire + i * MESSAGE_BYTES, MESSAGE_BYTES, "message %u", i);
	return vfio_map(function, wire, WIRE_IOVA, SMALL_PAGE, VFIO_DMA_MAP_FLAG_READ);
}

/* Messages come in order, so a number that is too high tells of those that did not come. */
static void count(struct outcome_count *counts, const uint8_t *message)
{
	unsigned int number;

	if (sscanf((const char *)message, "message %u", &number) != 1) {
		printf("first-bug: a message is garbled\n");
		counts->missing++;
		return;
	}
	for (; counts->received + counts->missing < number; counts->missing++)
		printf("first-bug: message %u never came\n", counts->received + counts->missing);
	counts->received++;
}

static bool receive_all(struct vfio_function *function, bool fixed, struct outcome_count *counts)
{
	uint8_t message[MESSAGE_BYTES];
	struct receiver receiver;
	struct card card;
	struct edu edu;
	bool end;

	TRY(fill_wire(function));
	TRY(edu_start(&edu, &function->pci) && card_start(&card, &edu, WIRE_IOVA, MESSAGES));
	TRY(receiver_open(&receiver, function, &card, RING_IOVA, fixed));
	for (;;) {
		TRY(receiver_next(&receiver, message, &end));
		if (end)
			break;
		count(counts, message);
	}
	counts->missing = MESSAGES - counts->received;
	return receiver_close(&receiver) && vfio_unmap(function, WIRE_IOVA, SMALL_PAGE);
}

static bool run(bool fixed, struct outcome_count *counts)
{
	struct pci_addresses edus = { .count = 0 };
	struct vfio_function function;
	bool done;

	pci_addresses_find(&edus, EDU_VENDOR_ID, EDU_DEVICE_ID);
	if (edus.count == 0)
		return failed("no edu device (1234:11e8) in this guest");
	done = vfio_open(&function, edus.list[0]) && receive_all(&function, fixed, counts);
	vfio_close(&function);
	return done;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "fixed", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct outcome_count counts = { .received = 0 };
	bool fixed = false;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'f')
			fixed = true;
		else
			return usage(option == 'h' ? stdout : stderr);
	}
	if (optind < argc)
		return usage(stderr);
	report_begin();
	if (!run(fixed, &counts)) {
		report_end("first-bug", "Receives messages", OUTCOME_FAIL, false);
		return EXIT_FAILURE;
	}
	printf("first-bug: %u of %d messages received\n", counts.received, MESSAGES);
	return counts.missing == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
