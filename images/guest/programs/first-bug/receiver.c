#define _GNU_SOURCE
#include "receiver.h"

#include "memory/physical.h"
#include "report/report.h"

#include <string.h>
#include <sys/mman.h>

/* So often the card is asked for a message before its buffer is taken for lost. */
#define PATIENCE 20
#define DEVICE_MAY (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

/* Gives the buffer a fresh page, maps it where nothing was mapped before, and hands it to the card. */
static bool buffer_post_new(struct receiver *receiver, struct buffer *buffer)
{
	void *memory = mmap(NULL, SMALL_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return failed_errno("cannot allocate a page");
	buffer->memory = memory;
	buffer->iova = receiver->next_iova;
	receiver->next_iova += SMALL_PAGE;
	return vfio_map(receiver->function, buffer->memory, buffer->iova, SMALL_PAGE, DEVICE_MAY) &&
	       card_post(receiver->card, buffer->iova);
}

static bool buffer_free(struct receiver *receiver, struct buffer *buffer)
{
	void *memory = buffer->memory;

	buffer->memory = NULL;
	TRY(vfio_unmap(receiver->function, buffer->iova, SMALL_PAGE));
	return munmap(memory, SMALL_PAGE) == 0 || failed_errno("munmap of a buffer");
}

/* The message did not come in time: a new buffer takes the place of the old one, so that the ring never runs dry. */
static bool buffer_replace(struct receiver *receiver, struct buffer *buffer)
{
	if (receiver->fixed)
		TRY(card_withdraw(receiver->card, buffer->iova));
	return buffer_free(receiver, buffer) && buffer_post_new(receiver, buffer);
}

/* The oldest buffer has been posted again, so it is the youngest now. */
static void advance(struct receiver *receiver)
{
	receiver->oldest = (receiver->oldest + 1) % RING_BUFFERS;
}

bool receiver_next(struct receiver *receiver, uint8_t message[MESSAGE_BYTES], bool *end)
{
	for (unsigned int polls = 0;; polls++) {
		struct buffer *buffer = &receiver->ring[receiver->oldest];
		enum card_event event;
		uint64_t filled;

		TRY(card_poll(receiver->card, &event, &filled));
		*end = event == CARD_END;
		if (*end)
			return true;
		if (event == CARD_MESSAGE && filled == buffer->iova) {
			memcpy(message, buffer->memory, MESSAGE_BYTES);
			advance(receiver);
			return card_post(receiver->card, buffer->iova);
		}
		if (polls == PATIENCE) {
			TRY(buffer_replace(receiver, buffer));
			advance(receiver);
		}
	}
}

bool receiver_open(struct receiver *receiver, struct vfio_function *function, struct card *card, uint64_t first_iova,
		   bool fixed)
{
	memset(receiver, 0, sizeof(*receiver));
	receiver->function = function;
	receiver->card = card;
	receiver->next_iova = first_iova;
	receiver->fixed = fixed;
	for (size_t i = 0; i < RING_BUFFERS; i++)
		TRY(buffer_post_new(receiver, &receiver->ring[i]));
	return true;
}

bool receiver_close(struct receiver *receiver)
{
	for (size_t i = 0; i < RING_BUFFERS; i++) {
		struct buffer *buffer = &receiver->ring[i];

		if (buffer->memory) {
			TRY(card_withdraw(receiver->card, buffer->iova));
			TRY(buffer_free(receiver, buffer));
		}
	}
	return true;
}
