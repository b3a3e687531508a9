/*
 * dma-demo: what a device behind an IOMMU can and cannot do, shown with the edu device and the stock VFIO drivers.
 * Run it in the guest, as root. Exit status: 0 all cases passed (or were skipped for want of a device or a pin), 1 a
 * case failed, 2 wrong use.
 */
#include "cases/cases.h"
#include "fixture.h"
#include "report/report.h"

static const struct case_definition cases[] = {
	{ "device-reads", "The device reads memory at an IOVA", case_device_reads },
	{ "device-writes", "The device writes memory at an IOVA", case_device_writes },
	{ "scattered", "Scattered pages look like one piece to the device", case_scattered },
	{ "large-pages", "DMA within 2 MiB pages", case_large_pages },
	{ "two-domains", "Two devices at the same IOVA reach different memory", case_two_domains },
	{ "read-only", "A write to a read-only mapping is refused", case_read_only },
	{ "read-only-cached", "The same after a read has put the mapping into the IOTLB", case_read_only_cached },
	{ "msi", "The device's MSI arrives", case_msi },
	{ "remap", "An IOVA mapped to other memory leads there at once", case_remap },
	{ "intx", "The device's interrupt pin is level-triggered", case_intx },
	/* Last, because the kernel tells of so few faults in five seconds: others use that time. */
	{ "use-after-unmap", "DMA to an IOVA that was unmapped is refused", case_use_after_unmap },
	{ "unmapped", "DMA to an IOVA that was never mapped is refused", case_unmapped },
};

static struct pci_addresses edus;

static enum outcome run_case(const struct case_definition *definition)
{
	struct fixture fixture;
	enum outcome outcome;

	fixture_begin(&fixture, edus.list, edus.count);
	outcome = definition->run(&fixture) ? OUTCOME_PASS : fixture.skip ? OUTCOME_SKIP : OUTCOME_FAIL;
	if (fixture.edu_count > 0)
		fact_text("device", edus.list[0]);
	fixture_end(&fixture);
	return outcome;
}

int main(int argc, char **argv)
{
	static const struct case_program program = {
		.name = "dma-demo",
		.cases = cases,
		.case_count = sizeof(cases) / sizeof(cases[0]),
		.edus = &edus,
		.run = run_case,
	};

	return run_case_program(&program, argc, argv);
}
