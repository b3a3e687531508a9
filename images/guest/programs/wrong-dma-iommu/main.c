/*
 * wrong-dma-iommu: a driver that makes one mistake at a time with the dma-iommu function. Run it in the guest, as root, on a machine
 * whose IOMMU is dma-iommu and whose edu devices drive all address lines (dmaMask=64). A case passes when the function did what it
 * does about such a mistake; that the mistake is noticed is for the host to check. Exit status: 0 all cases passed (or were skipped),
 * 1 a case failed, 2 wrong use.
 */
#include "cases.h"
#include "cases/cases.h"

static const struct case_definition cases[] = {
	{ "correct", "No mistake at all", case_correct },
	{ "correct-callers", "The same with tables of the caller's own", case_correct_callers },
	{ "overlapping-map", "A mapping over another one", case_overlapping_map },
	{ "double-unmap", "A mapping is undone twice", case_double_unmap },
	{ "mismatched-unmap", "More is unmapped than was mapped", case_mismatched_unmap },
	{ "mapping-leak", "A domain is deleted with mappings in it", case_mapping_leak },
	{ "stale-iotlb", "An entry leads elsewhere, and nothing is flushed", case_stale_iotlb },
	{ "stale-iotlb-late", "An entry is cleared, and flushed much later", case_stale_iotlb_late },
	{ "stale-paging-structure", "A table is replaced, and only a leaf is flushed", case_stale_paging_structure },
	{ "dma-before-flush", "DMA between the unmapping and its flush", case_dma_before_flush },
	{ "use-after-unmap", "DMA to a page after it was unmapped", case_use_after_unmap },
	{ "never-mapped", "DMA to where nothing was ever mapped", case_never_mapped },
	{ "never-mapped-physical", "The same with the buffer's physical address", case_never_mapped_physical },
	{ "wrong-direction", "A write to a page that may only be read", case_wrong_direction },
	{ "out-of-bounds", "A write that crosses the end of what is mapped", case_out_of_bounds },
	{ "address-too-wide", "More address bits than a domain has", case_address_too_wide },
	{ "dma-while-detached", "DMA after the device was detached", case_dma_while_detached },
	{ "dma-while-detached-unconfigured", "DMA in a domain that has no tables yet", case_dma_while_detached_unconfigured },
	{ "bus-master-off", "DMA with bus mastering off", case_bus_master_off },
	{ "pasid-misuse", "DMA with a PASID that nobody made", case_pasid_misuse },
	{ "descriptor-race", "Commands are rewritten while the function reads them", case_descriptor_race },
};

static struct pci_addresses iommus, edus;

static enum outcome run_case(const struct case_definition *definition)
{
	/* Not on the stack: handlers of one case may be called until it ends. */
	static struct fixture fixture;
	enum outcome outcome = OUTCOME_FAIL;

	if (fixture_begin(&fixture, iommus.list[0], &edus))
		outcome = definition->run(&fixture) ? OUTCOME_PASS : fixture.skip ? OUTCOME_SKIP : OUTCOME_FAIL;
	fixture_end(&fixture);
	return outcome;
}

int main(int argc, char **argv)
{
	static const struct case_program program = {
		.name = "wrong-dma-iommu",
		.cases = cases,
		.case_count = sizeof(cases) / sizeof(cases[0]),
		.edus = &edus,
		.iommus = &iommus,
		.run = run_case,
	};

	return run_case_program(&program, argc, argv);
}
