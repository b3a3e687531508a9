/* Where memory is physically. Functions that return bool, or NULL, have called failed() then. */
#ifndef LIB_MEMORY_PHYSICAL_H
#define LIB_MEMORY_PHYSICAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SMALL_PAGE 4096ull
#define LARGE_PAGE 0x200000ull

/* Physical address of each of `pages` small pages from `memory` on, which is page aligned, touched and locked. */
bool physical_pages(const void *memory, size_t pages, uint64_t *addresses);

/* One 2 MiB huge page, asking the kernel to reserve one when there is none left. munmap() gives it back. */
void *allocate_huge_page(void);

#endif
