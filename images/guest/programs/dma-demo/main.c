/*
 * dma-demo: what a device behind an IOMMU can and cannot do, shown with the edu device and the stock VFIO drivers.
 * Run it in the guest, as root. Exit status: 0 all cases passed (or were skipped for want of a device or a pin), 1 a
 * case failed, 2 wrong use.
 */
#include "cases/cases.h"
#include "fixture.h"
#include "pci/devices.h"
#include "report/report.h"

#include <stdio.h>

static const struct case_definition cases[] = {
	{ "device-reads", "The device reads memory at an IOVA", case_device_reads },
	{ "device-writes", "The device writes memory at an IOVA", case_device_writes },
	{ "scattered", "Scattered pages look like one piece to the device", case_scattered },
	{ "large-pages", "DMA within 2 MiB pages", case_large_pages },
	{ "two-domains", "Two devices at the same IOVA reach different memory", case_two_domains },
	{ "read-only", "A write to a read-only mapping is refused", case_read_only },
	{ "read-only-cached", "The same after a read has put the mapping into the IOTLB", case_read_only_cached },
	{ "unmapped", "DMA to an IOVA that was never mapped is refused", case_unmapped },
	{ "use-after-unmap", "DMA to an IOVA that was unmapped is refused", case_use_after_unmap },
	{ "msi", "The device's MSI arrives", case_msi },
	{ "remap", "An IOVA mapped to other memory leads there at once", case_remap },
	{ "intx", "The device's interrupt pin is level-triggered", case_intx },
};

static struct pci_addresses addresses;

static bool take_argument(const char *text)
{
	if (pci_addresses_add(&addresses, text))
		return true;
	fprintf(stderr, "dma-demo: \"%s\" is no PCI address like 0000:01:00.0\n", text);
	return false;
}

static bool prepare(void)
{
	if (addresses.count == 0)
		pci_addresses_find(&addresses, EDU_VENDOR_ID, EDU_DEVICE_ID);
	if (addresses.count > 0)
		return true;
	fprintf(stderr, "dma-demo: no edu device (1234:11e8) in this guest\n");
	return false;
}

static enum outcome run_case(const struct case_definition *definition)
{
	struct fixture fixture;
	enum outcome outcome;

	fixture_begin(&fixture, addresses.list, addresses.count);
	outcome = definition->run(&fixture) ? OUTCOME_PASS : fixture.skip ? OUTCOME_SKIP : OUTCOME_FAIL;
	if (fixture.edu_count > 0)
		fact_text("device", addresses.list[0]);
	fixture_end(&fixture);
	return outcome;
}

int main(int argc, char **argv)
{
	static const struct case_program program = {
		.name = "dma-demo",
		.usage = "[DEVICE...]\n"
			 "  DEVICE       PCI address, 0000:01:00.0 or 01:00.0; without any, all edu devices (1234:11e8)",
		.cases = cases,
		.case_count = sizeof(cases) / sizeof(cases[0]),
		.argument = take_argument,
		.prepare = prepare,
		.run = run_case,
	};

	return run_case_program(&program, argc, argv);
}
