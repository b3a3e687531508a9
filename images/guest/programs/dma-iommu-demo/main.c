/*
 * dma-iommu-demo: every operation of DMA_IOMMU_INTERFACE and DMA_IOMMU_INTERFACE_EX, through the dma-iommu function, with what edu
 * devices behind it can and cannot do as the proof. Run it in the guest, as root, on a machine whose IOMMU is dma-iommu; its edu
 * devices must be made with all address lines (dmaMask=64), and no driver is needed for either. Exit status: 0 all cases passed
 * (or were skipped for want of a second device), 1 a case failed, 2 wrong use.
 */
#include "cases.h"
#include "cases/cases.h"

static const struct case_definition cases[] = {
	{ "get-interface", "Versions 1 to 3 of the interface, and no others", case_get_interface },
	{ "CreateDomain", "V1: a domain whose tables are ours, and one whose are the caller's", case_create_domain },
	{ "DeleteDomain", "V1-V3: a domain goes once it is empty", case_delete_domain },
	{ "AttachDevice", "V1: a device is blocked until it is in a domain, and is in one only", case_attach_device },
	{ "DetachDevice", "V1: a device that leaves its domain is blocked at once", case_detach_device },
	{ "FlushDomain", "V1-V3: drops what is cached of a domain, and of no other", case_flush_domain },
	{ "FlushDomainByVaList", "V1-V3: drops what is cached of addresses, with or without pointers to tables", case_flush_domain_by_va_list },
	{ "QueryInputMappings", "V1-V3: the ids that stand for a device", case_query_input_mappings },
	{ "MapLogicalRange", "V1: scattered pages in one piece, with permissions, at a logical address", case_map_logical_range },
	{ "UnmapLogicalRange", "V1-V3: what is unmapped is refused at once, cached or not", case_unmap_logical_range },
	{ "MapIdentityRange", "V1: pages at their physical addresses", case_map_identity_range },
	{ "UnmapIdentityRange", "V1: and no longer", case_unmap_identity_range },
	{ "SetDeviceFaultReporting", "V1: a handler is told each fault of a device, or none", case_set_device_fault_reporting },
	{ "ConfigureDomain", "V1-V3: DMA goes through the caller's tables, or past them, and nowhere before", case_configure_domain },
	{ "CreateDomainEx", "V2, V3: types of domains, reserved regions", case_create_domain_ex },
	{ "AttachDeviceEx", "V2, V3: a DMA device in a domain", case_attach_device_ex },
	{ "DetachDeviceEx", "V2, V3: and out of it", case_detach_device_ex },
	{ "MapLogicalRangeEx", "V2, V3: an MDL, a list of page frames, a range of memory", case_map_logical_range_ex },
	{ "MapIdentityRangeEx", "V2, V3: memory at its physical address", case_map_identity_range_ex },
	{ "UnmapIdentityRangeEx", "V2, V3: and no longer", case_unmap_identity_range_ex },
	{ "SetDeviceFaultReportingEx", "V2, V3: a handler is told each fault of a DMA device", case_set_device_fault_reporting_ex },
	{ "QueryAvailableDomainTypes", "V2, V3: the types of domain that a device may be in", case_query_available_domain_types },
	{ "RegisterInterfaceStateChangeCallback", "V2, V3: called at once and at each change", case_register_callback },
	{ "UnregisterInterfaceStateChangeCallback", "V2, V3: and never again", case_unregister_callback },
	{ "ReserveLogicalAddressRange", "V2, V3: logical addresses set apart", case_reserve },
	{ "FreeReservedLogicalAddressRange", "V2, V3: and given back", case_free_reserved },
	{ "MapReservedLogicalRange", "V2, V3: pieces of them mapped", case_map_reserved },
	{ "UnmapReservedLogicalRange", "V2, V3: and unmapped", case_unmap_reserved },
	{ "CreateDevice", "V2, V3: a DMA device for a physical one", case_create_device },
	{ "DeleteDevice", "V2, V3: it goes once it is in no domain", case_delete_device },
	{ "CreatePasidDevice", "V3: a PASID for a device that tags its DMA", case_create_pasid_device },
	{ "DeletePasidDevice", "V3: it goes once it is in no domain", case_delete_pasid_device },
	{ "AttachPasidDevice", "V3: each PASID has a domain of its own", case_attach_pasid_device },
	{ "DetachPasidDevice", "V3: and is blocked at once when it leaves", case_detach_pasid_device },
	{ "QueryDeviceInfo", "V3: what a DMA device does with PASIDs", case_query_device_info },
	{ "buddy-allocator", "Logical addresses that the unit chooses", case_buddy_allocator },
	{ "two-domains", "Two devices at the same address reach different memory", case_two_domains },
	{ "tables-x64", "x86-64 tables of four levels", case_tables_x64 },
	{ "tables-x64-5-levels", "x86-64 tables of five levels", case_tables_x64_5_levels },
	{ "tables-arm64-4k", "ARM64 tables with granules of 4 KiB", case_tables_arm64_4k },
	{ "tables-arm64-16k", "ARM64 tables with granules of 16 KiB", case_tables_arm64_16k },
	{ "tables-arm64-64k", "ARM64 tables with granules of 64 KiB", case_tables_arm64_64k },
	{ "tables-arm64-ttbr1", "ARM64 tables for both ends of the address space", case_tables_arm64_ttbr1 },
	{ "bad-commands", "Commands that make no sense are refused", case_bad_commands },
	{ "bad-index", "An index that a ring does not have is refused", case_bad_index },
	{ "interrupt-pending", "Completions and faults ask for an interrupt", case_interrupt_pending },
};

static struct pci_addresses iommus, edus;

static enum outcome run_case(const struct case_definition *definition)
{
	/* Not on the stack: handlers of one case may be called until it ends. */
	static struct fixture fixture;
	enum outcome outcome = OUTCOME_FAIL;

	if (fixture_begin(&fixture, iommus.list[0], &edus))
		outcome = definition->run(&fixture) ? OUTCOME_PASS : fixture.skip ? OUTCOME_SKIP : OUTCOME_FAIL;
	if (fixture.device_count > 0)
		fact_text("device", edus.list[0]);
	fixture_end(&fixture);
	return outcome;
}

int main(int argc, char **argv)
{
	static const struct case_program program = {
		.name = "dma-iommu-demo",
		.cases = cases,
		.case_count = sizeof(cases) / sizeof(cases[0]),
		.edus = &edus,
		.iommus = &iommus,
		.run = run_case,
	};

	return run_case_program(&program, argc, argv);
}
