/*
 * wrong-vtd: a driver that makes one mistake at a time with the VT-d unit that it drives itself. Run it in the guest, as root, booted
 * with intel_iommu=off iomem=relaxed, on a machine whose first edu device drives all address lines (dmaMask=64) and whose second, if
 * there is one, drives 28. A case passes when the hardware did what it does about such a mistake, which is often nothing; that the
 * mistake is noticed is for the host to check. Exit status: 0 all cases passed (or were skipped), 1 a case failed, 2 wrong use.
 */
#include "cases.h"
#include "cases/cases.h"

static const struct case_definition cases[] = {
	{ "correct", "No mistake at all", case_correct },
	{ "stale-iotlb", "A page leads elsewhere, and nothing is flushed", case_stale_iotlb },
	{ "stale-iotlb-permissions", "A page becomes read-only, and nothing is flushed", case_stale_iotlb_permissions },
	{ "stale-iotlb-late", "A page is unmapped, and flushed much later", case_stale_iotlb_late },
	{ "stale-context", "A context entry names another domain, and nothing is flushed", case_stale_context },
	{ "stale-paging-structure", "A table is replaced, and only a leaf is flushed", case_stale_paging_structure },
	{ "missing-map-invalidation", "In caching mode a page is mapped and not flushed", case_missing_map_invalidation },
	{ "dma-before-flush", "DMA between the unmapping and its flush", case_dma_before_flush },
	{ "use-after-unmap", "DMA to a page after it was unmapped and flushed", case_use_after_unmap },
	{ "wrong-direction", "A write to a page that may only be read", case_wrong_direction },
	{ "wrong-direction-read", "A read of a page that may only be written", case_wrong_direction_read },
	{ "out-of-bounds", "A write that crosses the end of what is mapped", case_out_of_bounds },
	{ "out-of-bounds-beside", "A write right behind what is mapped", case_out_of_bounds_beside },
	{ "never-mapped", "DMA to where nothing was ever mapped", case_never_mapped },
	{ "never-mapped-physical", "The same with the buffer's physical address", case_never_mapped_physical },
	{ "wrong-requester-id", "The context entry of another function is filled in", case_wrong_requester_id },
	{ "bus-master-off", "DMA with bus mastering off", case_bus_master_off },
	{ "dma-while-detached", "DMA after the device was detached", case_dma_while_detached },
	{ "reserved-range", "A read of the range of interrupt messages", case_reserved_range },
	{ "reserved-range-mapped", "A page that is mapped to it", case_reserved_range_mapped },
	{ "address-too-wide", "More address bits than the device drives", case_address_too_wide },
	{ "address-too-wide-unit", "More address bits than the tables translate", case_address_too_wide_unit },
	{ "mapping-leak", "The device is detached, its mappings stay", case_mapping_leak },
	{ "malformed-table", "A reserved bit in an entry", case_malformed_table },
	{ "malformed-table-outside", "A table where no memory is", case_malformed_table_outside },
	{ "malformed-table-device", "A table in a device's registers", case_malformed_table_device },
	{ "malformed-table-loop", "A table that contains itself", case_malformed_table_loop },
	{ "malformed-table-context", "A reserved bit in a context entry", case_malformed_table_context },
	{ "invalidation-queue-misuse", "A descriptor of a type that does not exist", case_invalidation_queue_misuse },
	{ "invalidation-queue-misuse-tail", "A tail beyond the end of the queue", case_invalidation_queue_misuse_tail },
	{ "descriptor-race", "Descriptors are rewritten while the unit reads them", case_descriptor_race },
	{ "interrupt-misuse", "The unit's interrupt is sent to nobody", case_interrupt_misuse },
	{ "register-spin", "A register that does not change is polled and polled", case_register_spin },
	{ "unknown-register", "A register that does not exist is read", case_unknown_register },
	{ "dma-to-no-memory", "A page that is mapped to where no memory is", case_dma_to_no_memory },
	{ "pasid-misuse", "DMA with a PASID, which this unit does not have", case_pasid_misuse },
};

static struct pci_addresses edus;

static enum outcome run_case(const struct case_definition *definition)
{
	static struct fixture fixture;
	enum outcome outcome = OUTCOME_FAIL;

	if (fixture_begin(&fixture, &edus))
		outcome = definition->run(&fixture) ? OUTCOME_PASS : fixture.skip ? OUTCOME_SKIP : OUTCOME_FAIL;
	/* What went wrong first is what counts. */
	if (!fixture_end(&fixture) && outcome == OUTCOME_PASS)
		outcome = OUTCOME_FAIL;
	return outcome;
}

int main(int argc, char **argv)
{
	static const struct case_program program = {
		.name = "wrong-vtd",
		.cases = cases,
		.case_count = sizeof(cases) / sizeof(cases[0]),
		.edus = &edus,
		.run = run_case,
	};

	return run_case_program(&program, argc, argv);
}
