#include "dma_iommu_cases/tables.h"

#define ENTRY_SHIFT 3
#define ADDRESS_MASK 0x0000fffffffff000ull

static uint64_t *make_table(struct tables *tables)
{
	size_t size = (size_t)1 << tables->granule_shift;

	return arena_allocate(tables->arena, size, size);
}

bool x64_tables(struct tables *tables, struct arena *arena, unsigned levels)
{
	*tables = (struct tables){ .arena = arena, .format = TABLES_X64, .granule_shift = 12, .levels = levels };
	return (tables->root = make_table(tables)) != NULL;
}

bool arm64_tables(struct tables *tables, struct arena *arena, unsigned granule_shift, unsigned input_bits)
{
	unsigned per_level = granule_shift - ENTRY_SHIFT;

	*tables = (struct tables){
		.arena = arena,
		.format = TABLES_ARM64,
		.granule_shift = granule_shift,
		.levels = (input_bits - granule_shift + per_level - 1) / per_level,
	};
	return (tables->root = make_table(tables)) != NULL;
}

unsigned tables_shift(const struct tables *tables, unsigned level)
{
	return tables->granule_shift + (level - 1) * (tables->granule_shift - ENTRY_SHIFT);
}

uint64_t *tables_entry(struct tables *tables, uint64_t iova, unsigned level)
{
	uint64_t index_mask = (1ull << (tables->granule_shift - ENTRY_SHIFT)) - 1;
	uint64_t flags = tables->format == TABLES_X64 ? X64_PRESENT | X64_WRITABLE | X64_USER :
							ARM64_VALID | ARM64_TABLE_OR_PAGE;
	uint64_t *table = tables->root;

	for (unsigned at = tables->levels;; at--) {
		uint64_t *entry = &table[iova >> tables_shift(tables, at) & index_mask];

		if (at == level)
			return entry;
		if (*entry == 0) {
			uint64_t *below = make_table(tables);

			if (!below)
				return NULL;
			*entry = arena_physical(tables->arena, below) | flags;
		}
		table = arena_virtual(tables->arena, *entry & ADDRESS_MASK);
		if (!table) {
			failed("a page table entry 0x%llx leads out of this program's memory",
			       (unsigned long long)*entry);
			return NULL;
		}
	}
}

static uint64_t leaf_flags(enum table_format format, unsigned level, uint32_t permissions)
{
	if (format == TABLES_X64)
		return X64_PRESENT | X64_USER | (permissions & WRITE ? X64_WRITABLE : 0) |
		       (level > 1 ? X64_PAGE_SIZE : 0);
	return ARM64_VALID | ARM64_ACCESS_FLAG | ARM64_INNER_SHAREABLE | ARM64_UNPRIVILEGED |
	       (permissions & WRITE ? 0 : ARM64_READ_ONLY) | (level == 1 ? ARM64_TABLE_OR_PAGE : 0);
}

bool tables_map(struct tables *tables, uint64_t iova, uint64_t physical, unsigned level, uint32_t permissions)
{
	uint64_t *entry = tables_entry(tables, iova, level);

	if (!entry)
		return false;
	/* The function may look at any time: one store. */
	__atomic_store_n(entry, physical | leaf_flags(tables->format, level, permissions), __ATOMIC_RELEASE);
	return true;
}
