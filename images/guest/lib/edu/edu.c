#include "edu/edu.h"

#include "report/report.h"

#include <time.h>

/* Registers in BAR 0. */
#define REG_IDENTIFICATION 0x00
#define REG_LIVENESS 0x04
#define REG_IRQ_STATUS 0x24
#define REG_IRQ_RAISE 0x60
#define REG_IRQ_ACKNOWLEDGE 0x64
#define REG_DMA_SOURCE 0x80
#define REG_DMA_DESTINATION 0x88
#define REG_DMA_COUNT 0x90
#define REG_DMA_COMMAND 0x98
/* Not in QEMU's device. */
#define REG_DMA_PASID 0xa0

/* The device's buffer as its DMA engine addresses it. */
#define BUFFER_BASE 0x40000

#define DMA_START 1u
#define DMA_TO_RAM 2u
#define DMA_INTERRUPT 4u

#define PASID_ENABLE 0x80000000u
#define PASID_MASK 0x000fffffu

#define IDENTIFICATION_MASK 0x0000ffffu
#define IDENTIFICATION 0x000000edu

/* QEMU's own device takes 100 ms of virtual time; the rest is for a slow host. */
#define DMA_DEADLINE_MS 15000
#define DMA_POLL_NS 200000

static uint32_t read32(struct edu *edu, uint32_t offset)
{
	return *(volatile uint32_t *)(edu->function->bar0 + offset);
}

static void write32(struct edu *edu, uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(edu->function->bar0 + offset) = value;
}

static void write64(struct edu *edu, uint32_t offset, uint64_t value)
{
	*(volatile uint64_t *)(edu->function->bar0 + offset) = value;
}

static bool check_alive(struct edu *edu)
{
	const uint32_t probe = 0x12345678;
	uint32_t seen = read32(edu, REG_IDENTIFICATION);

	if ((seen & IDENTIFICATION_MASK) != IDENTIFICATION)
		return failed("identification register of %s: expected 0x....00ed, seen 0x%08x",
			      edu->address, seen);
	write32(edu, REG_LIVENESS, probe);
	seen = read32(edu, REG_LIVENESS);
	if (seen != ~probe)
		return failed("liveness register of %s: expected 0x%08x, seen 0x%08x", edu->address, ~probe,
			      seen);
	return true;
}

bool edu_start(struct edu *edu, const struct pci_function *function)
{
	edu->function = function;
	edu->address = function->address;
	edu->last_iova = EDU_IOVA_LIMIT - 1;
	if (function->bar0_size < REG_DMA_PASID + sizeof(uint64_t))
		return failed("BAR 0 of %s: expected the edu registers, seen only 0x%zx bytes", edu->address,
			      function->bar0_size);
	if (!check_alive(edu))
		return false;
	edu_acknowledge_interrupt(edu, edu_interrupt_status(edu));
	return true;
}

static bool dma(struct edu *edu, uint64_t source, uint64_t destination, uint32_t count, uint32_t flags)
{
	const struct timespec pause = { .tv_nsec = DMA_POLL_NS };
	uint64_t deadline = now_ms() + DMA_DEADLINE_MS;
	uint32_t command;

	write64(edu, REG_DMA_SOURCE, source);
	write64(edu, REG_DMA_DESTINATION, destination);
	write64(edu, REG_DMA_COUNT, count);
	/* What the CPU wrote to RAM must be there before the device is told to look. */
	__sync_synchronize();
	write64(edu, REG_DMA_COMMAND, DMA_START | flags);
	while ((command = read32(edu, REG_DMA_COMMAND)) & DMA_START) {
		if (now_ms() > deadline)
			return failed("DMA of %u bytes from 0x%llx to 0x%llx: expected the start bit clear within "
				      "%d ms, seen command 0x%x",
				      count, (unsigned long long)source, (unsigned long long)destination,
				      DMA_DEADLINE_MS, command);
		nanosleep(&pause, NULL);
	}
	__sync_synchronize();
	return true;
}

static bool check_range(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count)
{
	if (count == 0 || count > EDU_BUFFER_SIZE || offset > EDU_BUFFER_SIZE - count)
		return failed("DMA of %u bytes at buffer offset %u does not fit the device's buffer", count, offset);
	if (iova > edu->last_iova || count - 1 > edu->last_iova - iova)
		return failed("IOVA 0x%llx is beyond what the device can send, 0x%llx", (unsigned long long)iova,
			      (unsigned long long)edu->last_iova);
	return true;
}

bool edu_read(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count)
{
	return check_range(edu, iova, offset, count) && dma(edu, iova, BUFFER_BASE + offset, count, 0);
}

bool edu_write(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count)
{
	return check_range(edu, iova, offset, count) && dma(edu, BUFFER_BASE + offset, iova, count, DMA_TO_RAM);
}

bool edu_write_and_interrupt(struct edu *edu, uint64_t iova, uint32_t offset, uint32_t count)
{
	return check_range(edu, iova, offset, count) &&
	       dma(edu, BUFFER_BASE + offset, iova, count, DMA_TO_RAM | DMA_INTERRUPT);
}

bool edu_use_pasid(struct edu *edu, uint32_t pasid)
{
	const uint32_t wanted = PASID_ENABLE | (pasid & PASID_MASK);
	uint32_t seen;

	write32(edu, REG_DMA_PASID, wanted);
	seen = read32(edu, REG_DMA_PASID);
	if (seen != wanted)
		return failed("PASID register of %s: expected 0x%08x, seen 0x%08x", edu->address, wanted, seen);
	return true;
}

void edu_use_no_pasid(struct edu *edu)
{
	write32(edu, REG_DMA_PASID, 0);
}

void edu_raise_interrupt(struct edu *edu, uint32_t bits)
{
	write32(edu, REG_IRQ_RAISE, bits);
}

void edu_acknowledge_interrupt(struct edu *edu, uint32_t bits)
{
	write32(edu, REG_IRQ_ACKNOWLEDGE, bits);
}

uint32_t edu_interrupt_status(struct edu *edu)
{
	return read32(edu, REG_IRQ_STATUS);
}
