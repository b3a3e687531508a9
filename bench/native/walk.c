/*
 * The floor of the walk and of the TLB hit: the same tables, the same addresses in the same order, the same checks, in C.
 * walk <image> <rootFrame> <pages>: the image holds guest memory, then `pages` 32-bit page numbers to translate.
 * Prints: nanoseconds per walk, their checksum, nanoseconds per walk where each waits for the one before, nanoseconds per TLB hit,
 * their checksum.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RESERVED_TABLE 0x400fff8000000800ull
#define ADDRESS 0x000ffffffffff000ull
#define SETS 256
#define WAYS 4

struct entry {
    uint32_t page_low, tag, domain, epoch;
    uint32_t frame, permissions, unused[2];
};

static struct entry tlb[SETS * WAYS];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int64_t walk(const uint8_t *memory, uint64_t root, uint64_t iova, uint64_t access) {
    uint64_t table = root;
    if (iova >> 48)
        return -1;
    for (int level = 4;; level--) {
        int shift = 12 + 9 * (level - 1);
        uint64_t entry = *(const volatile uint64_t *)(memory + table + ((iova >> shift) & 511) * 8);
        if ((entry & 3) == 0 || (entry & access) != access)
            return -2;
        if (level == 1 || (level <= 3 && (entry & 0x80))) {
            uint64_t within = (1ull << shift) - 1;
            if (entry & (RESERVED_TABLE | (within & ~0xfffull)))
                return -3;
            return ((entry & ADDRESS) | (iova & within)) >> 12;
        }
        if (entry & (RESERVED_TABLE | (level >= 4 ? 0x80 : 0)))
            return -3;
        table = entry & ADDRESS;
    }
}

static struct entry *find(uint32_t domain, uint64_t iova) {
    uint32_t page_low = iova >> 12, tag = (uint32_t)(iova >> 44) | 12u << 20;
    struct entry *set = &tlb[((page_low ^ page_low >> 8 ^ domain ^ 60) & (SETS - 1)) * WAYS];
    for (int way = 0; way < WAYS; way++)
        if (set[way].page_low == page_low && set[way].tag == tag && set[way].domain == domain && set[way].epoch == 1)
            return &set[way];
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    uint64_t root = strtoull(argv[2], NULL, 0) << 12;
    size_t pages = strtoull(argv[3], NULL, 0);
    int fd = open(argv[1], O_RDONLY);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0)
        return 1;
    const uint8_t *memory = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (memory == MAP_FAILED)
        return 1;
    const uint32_t *order = (const uint32_t *)(memory + info.st_size - pages * 4);

    int64_t sum = 0;
    double took = 0;
    for (int round = 0; round < 2; round++) {
        sum = 0;
        double start = now();
        for (size_t i = 0; i < pages; i++)
            sum += walk(memory, root, (uint64_t)order[i] << 12, 1);
        took = now() - start;
    }
    printf("%.3f %lld ", took / pages, (long long)sum);

    for (int round = 0; round < 2; round++) {
        int64_t frame = 0;
        double start = now();
        for (size_t i = 0; i < pages; i++)
            frame = walk(memory, root, (order[i] + ((uint64_t)frame >> 30)) << 12, 1);
        took = now() - start;
        if (frame < 0)
            return 1;
    }
    printf("%.3f ", took / pages);

    /* As many consecutive pages as there are entries: each has its place. */
    uint32_t used[SETS] = {0};
    for (uint32_t page = 0; page < SETS * WAYS; page++) {
        uint32_t set = (page ^ page >> 8 ^ 7 ^ 60) & (SETS - 1);
        struct entry *e = &tlb[set * WAYS + used[set]++ % WAYS];
        *e = (struct entry){.page_low = page, .tag = 12u << 20, .domain = 7, .epoch = 1, .frame = page * 3, .permissions = 3};
    }
    for (int round = 0; round < 2; round++) {
        sum = 0;
        double start = now();
        for (size_t i = 0; i < pages; i++) {
            struct entry *e = find(7, (uint64_t)(order[i] % (SETS * WAYS)) << 12);
            if (e == NULL)
                return 1;
            sum += e->frame;
        }
        took = now() - start;
    }
    printf("%.3f %lld\n", took / pages, (long long)sum);
    return 0;
}
