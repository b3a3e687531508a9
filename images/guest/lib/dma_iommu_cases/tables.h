/* Page tables that this program builds itself, for domains whose tables belong to the caller. */
#ifndef LIB_DMA_IOMMU_CASES_TABLES_H
#define LIB_DMA_IOMMU_CASES_TABLES_H

#include "dma_iommu_cases/fixture.h"

enum table_format { TABLES_X64, TABLES_ARM64 };

struct tables {
	struct arena *arena;
	enum table_format format;
	unsigned granule_shift; /* log2 of the bytes of a table and of the smallest page */
	unsigned levels;
	uint64_t *root;
};

/* What an x86-64 entry has beside the address (Intel SDM volume 3, 4.5). */
#define X64_PRESENT (1ull << 0)
#define X64_WRITABLE (1ull << 1)
#define X64_USER (1ull << 2)
#define X64_ACCESSED (1ull << 5)
#define X64_DIRTY (1ull << 6)
#define X64_PAGE_SIZE (1ull << 7)

/* What a VMSAv8-64 stage 1 descriptor has beside the address (Arm ARM, D8.3). */
#define ARM64_VALID (1ull << 0)
#define ARM64_TABLE_OR_PAGE (1ull << 1)
#define ARM64_UNPRIVILEGED (1ull << 6)
#define ARM64_READ_ONLY (1ull << 7)
#define ARM64_INNER_SHAREABLE (3ull << 8)
#define ARM64_ACCESS_FLAG (1ull << 10)

/* Empty tables. False, with failed() called, when there is no room. */
bool x64_tables(struct tables *tables, struct arena *arena, unsigned levels);

/* `input_bits`: how many address bits they translate. */
bool arm64_tables(struct tables *tables, struct arena *arena, unsigned granule_shift, unsigned input_bits);

/*
 * The entry for the address at a level, 1 for the last, with all tables above it made where they are missing. NULL, with failed() called,
 * when there is no room.
 */
uint64_t *tables_entry(struct tables *tables, uint64_t iova, unsigned level);

/* Maps the page at `level`: of the granule's size at 1, larger above it. */
bool tables_map(struct tables *tables, uint64_t iova, uint64_t physical, unsigned level, uint32_t permissions);

/* log2 of the bytes that an entry of the level stands for. */
unsigned tables_shift(const struct tables *tables, unsigned level);

#endif
