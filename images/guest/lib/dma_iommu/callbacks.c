#include "dma_iommu/callbacks.h"

#include <stddef.h>
#include <string.h>

#define MAX_CALLBACKS 64

static struct callback callbacks[MAX_CALLBACKS];

uint64_t callback_add(enum callback_kind kind, const void *owner, void *function, void *context)
{
	for (uint64_t i = 0; i < MAX_CALLBACKS; i++) {
		if (callbacks[i].owner)
			continue;
		callbacks[i] = (struct callback){
			.kind = kind, .owner = owner, .function = function, .context = context
		};
		return i + 1;
	}
	return 0;
}

uint64_t callback_find(enum callback_kind kind, const void *owner, void *function)
{
	for (uint64_t i = 0; i < MAX_CALLBACKS; i++) {
		if (callbacks[i].owner == owner && callbacks[i].kind == kind &&
		    (!function || callbacks[i].function == function))
			return i + 1;
	}
	return 0;
}

struct callback *callback_get(enum callback_kind kind, uint64_t number)
{
	struct callback *callback = number >= 1 && number <= MAX_CALLBACKS ? &callbacks[number - 1] : NULL;

	return callback && callback->owner && callback->kind == kind ? callback : NULL;
}

void callback_remove(uint64_t number)
{
	if (number >= 1 && number <= MAX_CALLBACKS)
		memset(&callbacks[number - 1], 0, sizeof(callbacks[0]));
}

void callback_remove_all(void)
{
	memset(callbacks, 0, sizeof(callbacks));
}
