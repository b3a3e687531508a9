/* What the floor server and the measuring client share of vfio-user: numbers, headers, and regions of the edu device. */
#pragma once
#define _GNU_SOURCE
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { COMMAND_VERSION = 1, COMMAND_DMA_MAP = 2, COMMAND_DMA_UNMAP = 3, COMMAND_REGION_READ = 9, COMMAND_REGION_WRITE = 10,
       COMMAND_DMA_READ = 11 };
enum { FLAG_REPLY = 1, TYPE_MASK = 15, FLAG_NO_REPLY = 16 };
/* Registers of edu: one that never changes, a word that is kept, and the DMA engine's. */
enum { BAR0 = 0, CONFIGURATION = 7, IDENTIFICATION = 0x00, LIVENESS = 0x04, DMA_SOURCE = 0x80, DMA_DESTINATION = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98,
       EDU_BUFFER = 0x40000 };

struct header {
    uint16_t id, command;
    uint32_t size, flags, error;
};

struct region_access {
    uint64_t offset;
    uint32_t region, count;
};

struct dma_access {
    uint64_t address, count;
};

struct dma_map {
    uint32_t argsz, flags;
    uint64_t offset, address, size;
};

struct dma_unmap {
    uint32_t argsz, flags;
    uint64_t address, size;
};

static inline void fail(const char *what) {
    perror(what);
    exit(1);
}

static inline void check(int holds, const char *what) {
    if (!holds) exit((fprintf(stderr, "%s\n", what), 1));
}
