#define _GNU_SOURCE
#include "memory/physical.h"

#include "report/report.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (1ull << 63)
#define PAGEMAP_FRAME ((1ull << 55) - 1)

bool physical_pages(const void *memory, size_t pages, uint64_t *addresses)
{
	size_t bytes = pages * sizeof(uint64_t);
	off_t offset = (off_t)((uintptr_t)memory / SMALL_PAGE * sizeof(uint64_t));
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		return failed_errno("cannot open /proc/self/pagemap");
	length = pread(fd, addresses, bytes, offset);
	close(fd);
	if (length != (ssize_t)bytes)
		return failed_errno("cannot read /proc/self/pagemap");
	for (size_t i = 0; i < pages; i++) {
		if (!(addresses[i] & PAGEMAP_PRESENT) || !(addresses[i] & PAGEMAP_FRAME))
			return failed("page %zu has no physical address in /proc/self/pagemap: entry 0x%llx", i,
				      (unsigned long long)addresses[i]);
		addresses[i] = (addresses[i] & PAGEMAP_FRAME) * SMALL_PAGE;
	}
	return true;
}

static bool reserve_huge_page(void)
{
	static const char path[] = "/proc/sys/vm/nr_hugepages";
	unsigned long count = 0;
	FILE *file = fopen(path, "r+");
	bool done;

	if (!file)
		return failed_errno("cannot open %s", path);
	done = fscanf(file, "%lu", &count) == 1 && fseek(file, 0, SEEK_SET) == 0 &&
	       fprintf(file, "%lu\n", count + 1) > 0;
	if (fclose(file) != 0 || !done)
		return failed_errno("cannot reserve a huge page through %s", path);
	return true;
}

static void *map_huge_page(void)
{
	return mmap(NULL, LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
}

void *allocate_huge_page(void)
{
	void *memory = map_huge_page();

	if (memory == MAP_FAILED) {
		if (!reserve_huge_page())
			return NULL;
		memory = map_huge_page();
	}
	if (memory == MAP_FAILED) {
		failed_errno("no 2 MiB huge page to be had (see HugePages_Free in /proc/meminfo)");
		return NULL;
	}
	return memory;
}
