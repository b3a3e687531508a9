/* What was given to the function to call, which calls by number: it must not be able to name any address. */
#ifndef LIB_DMA_IOMMU_CALLBACKS_H
#define LIB_DMA_IOMMU_CALLBACKS_H

#include <stdint.h>

enum callback_kind { CALLBACK_FAULT, CALLBACK_STATE_CHANGE };

struct callback {
	enum callback_kind kind;
	const void *owner; /* what it was given for; NULL: none is here */
	void *function;
	void *context;
};

/* The number of a new one, above 0. 0: there is no room. */
uint64_t callback_add(enum callback_kind kind, const void *owner, void *function, void *context);

/* The number of the owner's of this kind, with this function or (NULL) any. 0: there is none. */
uint64_t callback_find(enum callback_kind kind, const void *owner, void *function);

/* NULL: none of this kind has that number. */
struct callback *callback_get(enum callback_kind kind, uint64_t number);
void callback_remove(uint64_t number);
void callback_remove_all(void);

#endif
