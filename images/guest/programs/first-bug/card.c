#include "card.h"

#include "report/report.h"

#include <string.h>
#include <time.h>

/* Of ten messages the seventh is late: the card has it after so many polls. */
#define LATE_EVERY 10
#define LATE_NUMBER 7
#define LATE_POLLS 30
#define POLL_NS 100000

bool card_start(struct card *card, struct edu *edu, uint64_t wire, unsigned int messages)
{
	memset(card, 0, sizeof(*card));
	card->edu = edu;
	card->messages = messages;
	if (messages > CARD_MESSAGES)
		return failed("the card has %d messages, not %u", CARD_MESSAGES, messages);
	return edu_read(edu, wire, 0, EDU_BUFFER_SIZE);
}

bool card_post(struct card *card, uint64_t iova)
{
	if (card->queued == CARD_QUEUE)
		return failed("the card's queue of %d buffers is full", CARD_QUEUE);
	card->queue[card->queued++] = iova;
	return true;
}

static void remove_from_queue(struct card *card, size_t index)
{
	card->queued--;
	memmove(&card->queue[index], &card->queue[index + 1], (card->queued - index) * sizeof(card->queue[0]));
}

bool card_withdraw(struct card *card, uint64_t iova)
{
	for (size_t i = 0; i < card->queued; i++) {
		if (card->queue[i] == iova) {
			remove_from_queue(card, i);
			return true;
		}
	}
	return failed("the card has no buffer at IOVA 0x%llx", (unsigned long long)iova);
}

static bool has_arrived(const struct card *card)
{
	return card->next % LATE_EVERY != LATE_NUMBER || card->polls > LATE_POLLS;
}

bool card_poll(struct card *card, enum card_event *event, uint64_t *iova)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };

	if (card->next == card->messages) {
		*event = CARD_END;
		return true;
	}
	card->polls++;
	if (card->queued == 0 || !has_arrived(card)) {
		*event = CARD_NOTHING;
		nanosleep(&pause, NULL);
		return true;
	}
	*event = CARD_MESSAGE;
	*iova = card->queue[0];
	remove_from_queue(card, 0);
	card->polls = 0;
	return edu_write(card->edu, *iova, card->next++ * MESSAGE_BYTES, MESSAGE_BYTES);
}
