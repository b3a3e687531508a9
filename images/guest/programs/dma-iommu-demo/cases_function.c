/* The function itself: which interfaces it has, what it does with commands that make no sense, and its interrupts. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#include <string.h>

bool case_get_interface(struct fixture *fixture)
{
	const SIZE_T sizes[] = { 0x78, 0xc0, 0xe8 };
	DMA_IOMMU_INTERFACE_EX ex, untouched;
	DMA_IOMMU_INTERFACE old;

	(void)fixture;
	for (ULONG version = 1; version <= 3; version++) {
		SUCCEEDS(IoGetIommuInterfaceEx(version, 0, &ex));
		if (ex.Version != version || ex.Size != sizes[version - 1])
			return failed("expected version %u of 0x%zx bytes, seen %u of 0x%zx", version,
				      sizes[version - 1], ex.Version, ex.Size);
	}
	memset(&ex, GUARD, sizeof(ex));
	memset(&untouched, GUARD, sizeof(untouched));
	REFUSES(IoGetIommuInterfaceEx(0, 0, &ex), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	REFUSES(IoGetIommuInterfaceEx(4, 0, &ex), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	REFUSES(IoGetIommuInterfaceEx(1, 1, &ex), DMA_IOMMU_NT_INVALID_PARAMETER_3);
	if (memcmp(&ex, &untouched, sizeof(ex)) != 0)
		return failed("expected the structure untouched where the call fails");
	SUCCEEDS(IoGetIommuInterface(1, &old));
	REFUSES(IoGetIommuInterface(2, &old), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	detail("versions 1, 2 and 3 of 0x78, 0xc0 and 0xe8 bytes; other versions and flags refused");
	return true;
}

bool case_two_domains(struct fixture *fixture)
{
	struct setting first, second;

	if (fixture->edus->count < 2)
		return skipped(fixture, "the case needs two devices");
	/* Both have the same addresses. */
	TRY(use_setting(fixture, &first) && use_setting(fixture, &second));
	memset(second.target.memory, GUARD, SMALL_PAGE);
	TRY(setting_works(&first));
	TRY(all_bytes(second.target.memory, SMALL_PAGE, GUARD, "the second device's page after DMA of the first"));
	TRY(setting_works(&second));
	TRY(same_bytes(first.source.memory, first.target.memory, SMALL_PAGE, "the first device's page after that"));
	/* What is the first device's alone is closed to the second, even right after the first has used it. */
	SUCCEEDS(fixture->v1.UnmapLogicalRange(second.domain, TARGET_IOVA, 1));
	TRY(setting_works(&first));
	TRY(write_refused(fixture, second.device, (struct place){ TARGET_IOVA, first.target.memory },
			  fault_in(&second, TranslationFault)));
	fact_text("devices", second.device->edu.address);
	detail("%s and %s at 0x%llx reached their own memory only", first.device->edu.address,
	       second.device->edu.address, (unsigned long long)TARGET_IOVA);
	return true;
}

static bool refuses_command(struct dma_iommu_command command, NTSTATUS wanted, const char *what)
{
	struct dma_iommu_completion completion;

	return expect_status(dma_iommu_run(&command, &completion), wanted, what);
}

bool case_bad_commands(struct fixture *fixture)
{
	struct dma_iommu_command unknown = { .opcode = 0x7f }, flagged = { .opcode = DMA_IOMMU_OP_CREATE_DOMAIN };
	struct dma_iommu_command rest = flagged, nowhere = { .opcode = DMA_IOMMU_OP_MAP_LOGICAL_RANGE };
	struct dma_iommu_map_logical_range *map = &nowhere.args.map_logical_range;
	struct setting setting;

	TRY(use_setting(fixture, &setting));
	TRY(refuses_command(unknown, DMA_IOMMU_NT_INVALID_DEVICE_REQUEST, "an unknown opcode"));
	flagged.flags = 0x8000;
	TRY(refuses_command(flagged, DMA_IOMMU_NT_INVALID_PARAMETER, "an unknown flag"));
	rest.args.bytes[111] = 1;
	TRY(refuses_command(rest, DMA_IOMMU_NT_INVALID_PARAMETER, "a byte that no field names"));
	map->domain = dma_iommu_domain_number(setting.domain);
	map->permissions = READ;
	map->logical_address = OTHER_IOVA;
	/* A list of page frames where there is no memory. */
	map->mdl = (struct dma_iommu_memory){ .type = DMA_IOMMU_MEMORY_MDL, .address = 1ull << 42, .size = SMALL_PAGE };
	TRY(refuses_command(nowhere, DMA_IOMMU_NT_INVALID_PARAMETER_3, "page frames outside memory"));
	map->mdl.address = 0x1004;
	TRY(refuses_command(nowhere, DMA_IOMMU_NT_INVALID_PARAMETER_3, "page frames that are not aligned"));
	REFUSES(fixture->v1.FlushDomain((PIOMMU_DMA_DOMAIN)(uintptr_t)0xffffffff), DMA_IOMMU_NT_INVALID_HANDLE);
	TRY(probe_refuses(setting.device, OTHER_IOVA, READ, TranslationFault));
	TRY(setting_works(&setting));
	detail("unknown opcode, flag and byte, lists out of memory and unaligned, a handle of nothing: each refused");
	return true;
}

#define STATUS_ERRORS \
	(DMA_IOMMU_STATUS_COMMAND_ERROR | DMA_IOMMU_STATUS_COMPLETION_ERROR | DMA_IOMMU_STATUS_FAULT_ERROR)

bool case_bad_index(struct fixture *fixture)
{
	uint32_t before = dma_iommu_register(DMA_IOMMU_REG_COMMAND_TAIL), status, error, tail;
	struct setting setting;

	TRY(use_setting(fixture, &setting));
	before = dma_iommu_register(DMA_IOMMU_REG_COMMAND_TAIL);
	dma_iommu_write_register(DMA_IOMMU_REG_COMMAND_TAIL, 0xfffff);
	status = dma_iommu_register(DMA_IOMMU_REG_STATUS) & STATUS_ERRORS;
	error = dma_iommu_register(DMA_IOMMU_REG_ERROR) >> DMA_IOMMU_ERROR_COMMAND_SHIFT & DMA_IOMMU_ERROR_MASK;
	tail = dma_iommu_register(DMA_IOMMU_REG_COMMAND_TAIL);
	if (status != DMA_IOMMU_STATUS_COMMAND_ERROR || error != DMA_IOMMU_RING_ERROR_INDEX || tail != before)
		return failed("expected the command ring's error %u and its tail at %u, seen status 0x%x, error %u, "
			      "tail %u",
			      DMA_IOMMU_RING_ERROR_INDEX, before, status, error, tail);
	dma_iommu_write_register(DMA_IOMMU_REG_STATUS, DMA_IOMMU_STATUS_COMMAND_ERROR);
	SUCCEEDS(fixture->v1.UnmapLogicalRange(setting.domain, SOURCE_IOVA, 1));
	TRY(write_refused(fixture, setting.device, (struct place){ SOURCE_IOVA, setting.target.memory },
			  fault_in(&setting, TranslationFault)));
	detail("an index that the ring does not have stopped it, was told, and was forgiven once acknowledged");
	return true;
}

bool case_interrupt_pending(struct fixture *fixture)
{
	const uint32_t both = DMA_IOMMU_INTERRUPT_COMPLETION | DMA_IOMMU_INTERRUPT_FAULT;
	struct setting setting;
	uint32_t before, after_command, after_fault, cleared;

	TRY(use_setting(fixture, &setting));
	dma_iommu_write_register(DMA_IOMMU_REG_INTERRUPT_ENABLE, both);
	dma_iommu_write_register(DMA_IOMMU_REG_INTERRUPT_PENDING, 0xf);
	before = dma_iommu_register(DMA_IOMMU_REG_INTERRUPT_PENDING);
	SUCCEEDS(fixture->v1.UnmapLogicalRange(setting.domain, SOURCE_IOVA, 1));
	after_command = dma_iommu_register(DMA_IOMMU_REG_INTERRUPT_PENDING);
	TRY(write_refused(fixture, setting.device, (struct place){ SOURCE_IOVA, setting.target.memory },
			  fault_in(&setting, TranslationFault)));
	after_fault = dma_iommu_register(DMA_IOMMU_REG_INTERRUPT_PENDING);
	dma_iommu_write_register(DMA_IOMMU_REG_INTERRUPT_PENDING, both);
	cleared = dma_iommu_register(DMA_IOMMU_REG_INTERRUPT_PENDING);
	if (before != 0 || after_command != DMA_IOMMU_INTERRUPT_COMPLETION || after_fault != both || cleared != 0)
		return failed("expected pending 0, 1, 3, 0; seen 0x%x, 0x%x, 0x%x, 0x%x", before, after_command,
			      after_fault, cleared);
	detail("a command's and a fault's interrupt pending, each after its own cause, and cleared");
	return true;
}
