#include "dma_iommu/unit.h"

#include "dma_iommu/callbacks.h"
#include "memory/arena.h"
#include "pci/devices.h"
#include "pci/sysfs.h"
#include "report/report.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* log2 of entries */
#define COMMAND_RING_SIZE 5u
#define COMPLETION_RING_SIZE 6u
#define FAULT_RING_SIZE 6u
#define SCRATCH_BYTES 0x80000u

#define ANSWER_DEADLINE_MS 15000
#define POLL_NS 200000
/* Marks a device object: requester id 0 is a device too, and NULL is none. */
#define DEVICE_OBJECT_TAG 0x10000u

/* A ring that the function fills. */
struct ring {
	uint8_t *entries;
	size_t entry_bytes;
	uint32_t size; /* log2 of entries */
	uint32_t head_register;
	uint32_t tail_register;
	uint32_t head;
	uint8_t phase; /* of the entries of this lap */
};

static struct pci_function function;
static struct arena arena;
static struct dma_iommu_command *commands;
static uint32_t command_tail;
static uint64_t cookie;
static struct ring completions, faults;
static uint8_t *scratch;
static size_t scratch_used;

uint32_t dma_iommu_register(uint32_t offset)
{
	return *(volatile uint32_t *)(function.bar0 + offset);
}

void dma_iommu_write_register(uint32_t offset, uint32_t value)
{
	*(volatile uint32_t *)(function.bar0 + offset) = value;
}

static void write64(uint32_t offset, uint64_t value)
{
	*(volatile uint64_t *)(function.bar0 + offset) = value;
}

static uint64_t read64(uint32_t offset)
{
	return *(volatile uint64_t *)(function.bar0 + offset);
}

uint64_t dma_iommu_capabilities(void)
{
	return read64(DMA_IOMMU_REG_CAPABILITIES);
}

static void pause_briefly(void)
{
	const struct timespec pause = { .tv_nsec = POLL_NS };

	nanosleep(&pause, NULL);
}

/* Waits until the register's bits are as wanted. */
static bool wait_register(uint32_t offset, uint32_t mask, uint32_t wanted, const char *what)
{
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;
	uint32_t seen;

	while (((seen = dma_iommu_register(offset)) & mask) != wanted) {
		if (now_ms() > deadline)
			return failed("%s: expected 0x%x in bits 0x%x of register 0x%x within %d ms, seen 0x%x", what,
				      wanted, mask, offset, ANSWER_DEADLINE_MS, seen);
		pause_briefly();
	}
	return true;
}

/* Waits until the register has another value than this. */
static bool wait_other(uint32_t offset, uint32_t value)
{
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;

	while (dma_iommu_register(offset) == value) {
		if (now_ms() > deadline)
			return failed("expected register 0x%x to leave 0x%x within %d ms", offset, value,
				      ANSWER_DEADLINE_MS);
		pause_briefly();
	}
	return true;
}

static bool check_identity(void)
{
	uint32_t id, major;

	if (function.bar0_size < DMA_IOMMU_BAR_REGISTER_BYTES)
		return failed("BAR 0 of %s: expected %u bytes, seen %zu", function.address,
			      DMA_IOMMU_BAR_REGISTER_BYTES, function.bar0_size);
	id = dma_iommu_register(DMA_IOMMU_REG_ID);
	major = dma_iommu_register(DMA_IOMMU_REG_VERSION) >> DMA_IOMMU_VERSION_MAJOR_SHIFT;
	if (id != DMA_IOMMU_ID || major != DMA_IOMMU_VERSION_MAJOR)
		return failed("%s: expected id 0x%x and major version %u, seen 0x%x and %u", function.address,
			      DMA_IOMMU_ID, DMA_IOMMU_VERSION_MAJOR, id, major);
	return true;
}

/* Its own reset: as after power-on, whatever a program before this one left. */
static bool reset(void)
{
	dma_iommu_write_register(DMA_IOMMU_REG_CONTROL, DMA_IOMMU_CONTROL_RESET);
	return wait_register(DMA_IOMMU_REG_STATUS, DMA_IOMMU_STATUS_READY | DMA_IOMMU_STATUS_TRANSLATING, 0,
			     "resetting the function");
}

static void *make_ring(uint32_t base_register, uint32_t size_register, uint32_t size, size_t entry_bytes)
{
	void *entries = arena_allocate(&arena, entry_bytes << size, DMA_IOMMU_RING_ALIGNMENT);

	if (entries) {
		write64(base_register, arena_physical(&arena, entries));
		dma_iommu_write_register(size_register, size);
	}
	return entries;
}

static bool set_up_rings(void)
{
	commands = make_ring(DMA_IOMMU_REG_COMMAND_BASE, DMA_IOMMU_REG_COMMAND_SIZE, COMMAND_RING_SIZE,
			     sizeof(*commands));
	completions = (struct ring){
		.entries = make_ring(DMA_IOMMU_REG_COMPLETION_BASE, DMA_IOMMU_REG_COMPLETION_SIZE,
				     COMPLETION_RING_SIZE, sizeof(struct dma_iommu_completion)),
		.entry_bytes = sizeof(struct dma_iommu_completion),
		.size = COMPLETION_RING_SIZE,
		.head_register = DMA_IOMMU_REG_COMPLETION_HEAD,
		.tail_register = DMA_IOMMU_REG_COMPLETION_TAIL,
		.phase = 1,
	};
	faults = (struct ring){
		.entries = make_ring(DMA_IOMMU_REG_FAULT_BASE, DMA_IOMMU_REG_FAULT_SIZE, FAULT_RING_SIZE,
				     sizeof(struct dma_iommu_fault)),
		.entry_bytes = sizeof(struct dma_iommu_fault),
		.size = FAULT_RING_SIZE,
		.head_register = DMA_IOMMU_REG_FAULT_HEAD,
		.tail_register = DMA_IOMMU_REG_FAULT_TAIL,
		.phase = 1,
	};
	scratch = arena_allocate(&arena, SCRATCH_BYTES, SMALL_PAGE);
	command_tail = 0;
	return commands && completions.entries && faults.entries && scratch;
}

bool dma_iommu_open(const char *address)
{
	callback_remove_all();
	if (!pci_open(&function, address) || !check_identity() || !reset() || !arena_open(&arena) || !set_up_rings())
		return false;
	dma_iommu_write_register(DMA_IOMMU_REG_CONTROL, DMA_IOMMU_CONTROL_ENABLE | DMA_IOMMU_CONTROL_TRANSLATE);
	return wait_register(DMA_IOMMU_REG_STATUS, DMA_IOMMU_STATUS_READY | DMA_IOMMU_STATUS_TRANSLATING,
			     DMA_IOMMU_STATUS_READY | DMA_IOMMU_STATUS_TRANSLATING, "turning translation on");
}

void dma_iommu_close(void)
{
	/* The function must have let go of the rings before their memory goes. */
	if (function.bar0)
		reset();
	pci_close(&function);
	arena_close(&arena);
}

PDEVICE_OBJECT dma_iommu_device_object(const char *address)
{
	return (PDEVICE_OBJECT)(uintptr_t)(DEVICE_OBJECT_TAG | pci_requester_id(address));
}

static uint32_t requester_id(PDEVICE_OBJECT device)
{
	return (uint32_t)(uintptr_t)device & 0xffffu;
}

uint32_t dma_iommu_domain_number(PIOMMU_DMA_DOMAIN domain)
{
	return (uint32_t)(uintptr_t)domain;
}

void *dma_iommu_scratch(size_t size, uint64_t *physical)
{
	size_t start = (scratch_used + 15) & ~(size_t)15;

	if (start > SCRATCH_BYTES || size > SCRATCH_BYTES - start) {
		scratch_used = 0;
		failed("the arguments of a command take more than %u bytes", SCRATCH_BYTES);
		return NULL;
	}
	scratch_used = start + size;
	*physical = arena_physical(&arena, scratch + start);
	return memset(scratch + start, 0, size);
}

/* The next entry, if the function has filled it; its phase is stored last. */
static bool take_entry(struct ring *ring, void *entry)
{
	const uint8_t *next = ring->entries + (size_t)ring->head * ring->entry_bytes;

	if (__atomic_load_n(next, __ATOMIC_ACQUIRE) != ring->phase)
		return false;
	memcpy(entry, next, ring->entry_bytes);
	/* The function fills an entry before it counts it, and takes no entry back that it has not counted. */
	if (!wait_other(ring->tail_register, ring->head))
		return false;
	ring->head = (ring->head + 1) & ((1u << ring->size) - 1);
	if (ring->head == 0)
		ring->phase ^= 1;
	dma_iommu_write_register(ring->head_register, ring->head);
	return true;
}

static void dispatch_state_change(const struct dma_iommu_completion *completion)
{
	const struct dma_iommu_state_change *change = &completion->result.state_change;
	struct callback *callback = callback_get(CALLBACK_STATE_CHANGE, change->callback);
	IOMMU_INTERFACE_STATE_CHANGE told = { .PresentFields.AsULONG = change->present_fields,
					      .AvailableDomainTypes = change->available_domain_types };

	if (callback)
		((PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK)callback->function)(&told, callback->context);
}

int dma_iommu_dispatch_state_changes(int timeout_ms)
{
	uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
	struct dma_iommu_completion completion;
	int count = 0;

	for (;;) {
		while (take_entry(&completions, &completion)) {
			if (completion.kind != DMA_IOMMU_COMPLETION_STATE_CHANGE)
				continue;
			dispatch_state_change(&completion);
			count++;
		}
		if (count > 0 || now_ms() >= deadline)
			return count;
		pause_briefly();
	}
}

struct dma_iommu_command *dma_iommu_command_ring(size_t *entries)
{
	*entries = (size_t)1 << COMMAND_RING_SIZE;
	return commands;
}

static void submit(struct dma_iommu_command *command)
{
	command->cookie = ++cookie;
	commands[command_tail] = *command;
	command_tail = (command_tail + 1) & ((1u << COMMAND_RING_SIZE) - 1);
	/* The command must be in memory before the function is told to look. */
	__sync_synchronize();
	dma_iommu_write_register(DMA_IOMMU_REG_COMMAND_TAIL, command_tail);
}

NTSTATUS dma_iommu_run(struct dma_iommu_command *command, struct dma_iommu_completion *completion)
{
	uint64_t deadline = now_ms() + ANSWER_DEADLINE_MS;

	submit(command);
	/* The arguments are read by the time the command completes. */
	scratch_used = 0;
	for (;;) {
		while (take_entry(&completions, completion)) {
			if (completion->kind == DMA_IOMMU_COMPLETION_STATE_CHANGE)
				dispatch_state_change(completion);
			else if (completion->cookie == command->cookie)
				return completion->status;
		}
		if (now_ms() > deadline) {
			failed("opcode 0x%x: expected an answer within %d ms, seen none (status 0x%x, error 0x%x)",
			       command->opcode, ANSWER_DEADLINE_MS, dma_iommu_register(DMA_IOMMU_REG_STATUS),
			       dma_iommu_register(DMA_IOMMU_REG_ERROR));
			return DMA_IOMMU_STATUS_NO_ANSWER;
		}
		pause_briefly();
	}
}

static void call_fault_handler(const struct dma_iommu_fault *fault)
{
	struct callback *callback = callback_get(CALLBACK_FAULT, fault->context);
	PVOID domain = (PVOID)(uintptr_t)fault->domain, address = (PVOID)(uintptr_t)fault->fault_address;
	FAULT_INFORMATION told = { .Type = fault->arch, .IsStage1 = fault->is_stage1 };

	if (fault->arch == DMA_IOMMU_FAULT_ARCH_ARM64) {
		told.Arm64 = (FAULT_INFORMATION_ARM64){
			.DomainHandle = domain,
			.FaultAddress = address,
			.PhysicalDeviceObject = (PDEVICE_OBJECT)(uintptr_t)(DEVICE_OBJECT_TAG | fault->pdo),
			.InputMappingId = fault->input_mapping_id,
			.Flags.WriteNotRead = (fault->flags & DMA_IOMMU_FAULT_ARM64_WRITE_NOT_READ) != 0,
			.Flags.InstructionNotData = (fault->flags & DMA_IOMMU_FAULT_ARM64_INSTRUCTION_NOT_DATA) != 0,
			.Flags.Privileged = (fault->flags & DMA_IOMMU_FAULT_ARM64_PRIVILEGED) != 0,
			.Flags.FaultAddressValid = (fault->flags & DMA_IOMMU_FAULT_ARM64_ADDRESS_VALID) != 0,
			.Type = fault->type,
			.IommuBaseAddress = fault->iommu_base_address,
		};
	} else {
		told.X64 = (FAULT_INFORMATION_X64){
			.DomainHandle = domain,
			.FaultAddress = address,
			.Flags.FaultAddressValid = (fault->flags & DMA_IOMMU_FAULT_X64_ADDRESS_VALID) != 0,
			.Type = fault->type,
			.IommuBaseAddress = fault->iommu_base_address,
			.PciSegment = fault->pci_segment,
		};
	}
	if (callback)
		((PIOMMU_DEVICE_FAULT_HANDLER)callback->function)(callback->context, &told);
}

bool dma_iommu_take_fault(struct dma_iommu_fault *fault, int timeout_ms, bool *found)
{
	uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
	uint32_t lost;

	while (!(*found = take_entry(&faults, fault)) && now_ms() < deadline)
		pause_briefly();
	if (*found)
		call_fault_handler(fault);
	lost = dma_iommu_register(DMA_IOMMU_REG_FAULT_OVERFLOW);
	return lost == 0 || failed("expected no fault to be lost, seen %u", lost);
}

bool dma_iommu_probe(PDEVICE_OBJECT device, int32_t pasid, uint64_t iova, uint32_t access,
		     struct dma_iommu_probe *result)
{
	uint32_t word;

	dma_iommu_write_register(DMA_IOMMU_REG_PROBE_DEVICE, requester_id(device));
	dma_iommu_write_register(DMA_IOMMU_REG_PROBE_PASID,
				 pasid < 0 ? 0 : DMA_IOMMU_PROBE_PASID_VALID | (uint32_t)pasid);
	write64(DMA_IOMMU_REG_PROBE_IOVA, iova);
	dma_iommu_write_register(DMA_IOMMU_REG_PROBE_COMMAND, DMA_IOMMU_PROBE_START | access);
	if (!wait_register(DMA_IOMMU_REG_PROBE_COMMAND, DMA_IOMMU_PROBE_START, 0, "the probe"))
		return false;
	word = dma_iommu_register(DMA_IOMMU_REG_PROBE_RESULT);
	*result = (struct dma_iommu_probe){
		.translated = word & DMA_IOMMU_PROBE_TRANSLATED,
		.stale = word & DMA_IOMMU_PROBE_STALE,
		.source = word >> DMA_IOMMU_PROBE_SOURCE_SHIFT & DMA_IOMMU_PROBE_SOURCE_MASK,
		.level = word >> DMA_IOMMU_PROBE_LEVEL_SHIFT & DMA_IOMMU_PROBE_LEVEL_MASK,
		.permissions = word >> DMA_IOMMU_PROBE_PERMISSIONS_SHIFT & DMA_IOMMU_PROBE_PERMISSIONS_MASK,
		.shift = word >> DMA_IOMMU_PROBE_SHIFT_SHIFT & DMA_IOMMU_PROBE_SHIFT_MASK,
		.fault_type = word >> DMA_IOMMU_PROBE_FAULT_TYPE_SHIFT & DMA_IOMMU_PROBE_FAULT_TYPE_MASK,
		.physical = read64(DMA_IOMMU_REG_PROBE_ADDRESS),
		.domain = dma_iommu_register(DMA_IOMMU_REG_PROBE_DOMAIN),
	};
	return true;
}
