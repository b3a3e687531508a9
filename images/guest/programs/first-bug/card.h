/*
 * A card that receives messages, made of the edu device: its DMA engine does the transfers, and what the firmware of a real card
 * would do is here: a queue of receive buffers, and a network on which a message is late now and then. Functions that return bool
 * have called failed() on false.
 */
#ifndef FIRST_BUG_CARD_H
#define FIRST_BUG_CARD_H

#include "edu/edu.h"

#define MESSAGE_BYTES 64
/* Those that fit the device's own buffer. */
#define CARD_MESSAGES (EDU_BUFFER_SIZE / MESSAGE_BYTES)
#define CARD_QUEUE 16

enum card_event { CARD_NOTHING, CARD_MESSAGE, CARD_END };

struct card {
	struct edu *edu;
	uint64_t queue[CARD_QUEUE]; /* IOVAs of receive buffers, the oldest first */
	size_t queued;
	unsigned int messages, next;
	unsigned int polls; /* since the last message */
};

/* `wire`: IOVA of one page with all messages, each in MESSAGE_BYTES. The card sends `messages` of them to its driver, in order. */
bool card_start(struct card *card, struct edu *edu, uint64_t wire, unsigned int messages);

/* The card will write a message to this IOVA: the oldest buffer gets the next message. */
bool card_post(struct card *card, uint64_t iova);

/* Takes a buffer back from the card: it will not be written to. */
bool card_withdraw(struct card *card, uint64_t iova);

/* What is new: a message, and the IOVA it was written to; nothing; or that no message will come any more. */
bool card_poll(struct card *card, enum card_event *event, uint64_t *iova);

#endif
