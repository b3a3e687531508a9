/* A driver that receives messages from a card into a ring of buffers. Functions that return bool have called failed() on false. */
#ifndef FIRST_BUG_RECEIVER_H
#define FIRST_BUG_RECEIVER_H

#include "card.h"
#include "vfio/vfio.h"

#define RING_BUFFERS 4

struct buffer {
	uint8_t *memory; /* one page */
	uint64_t iova;
};

struct receiver {
	struct vfio_function *function;
	struct card *card;
	struct buffer ring[RING_BUFFERS]; /* all are the card's */
	size_t oldest;			  /* the one that the next message goes to */
	uint64_t next_iova;
	bool fixed; /* does without the mistake that this program is about */
};

/* Maps the ring's buffers from `first_iova` on, and gives them to the card. */
bool receiver_open(struct receiver *receiver, struct vfio_function *function, struct card *card, uint64_t first_iova,
		   bool fixed);

/* Also after a failed receiver_open(). */
bool receiver_close(struct receiver *receiver);

/* Waits for the next message and copies it; `*end`: there was none, and none will come. */
bool receiver_next(struct receiver *receiver, uint8_t message[MESSAGE_BYTES], bool *end);

#endif
