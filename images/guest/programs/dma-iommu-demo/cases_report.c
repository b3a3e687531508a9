/* What the function tells: faults, state changes, which ids and which types of domain there are. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#include <string.h>

#define CALLBACK_DEADLINE_MS 10000

bool case_set_device_fault_reporting(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct setting setting;
	struct place victim;
	int heard;

	TRY(use_setting(fixture, &setting));
	victim = (struct place){ OTHER_IOVA, setting.target.memory };
	SUCCEEDS(v1->SetDeviceFaultReporting(setting.device->object, 0, 0, NULL));
	TRY(write_ignored(setting.device, victim));
	if (fixture->faults_heard != 0)
		return failed("expected a silent handler, seen %d calls", fixture->faults_heard);

	TRY(report_faults(fixture, setting.device));
	TRY(write_refused(fixture, setting.device, victim, fault_in(&setting, TranslationFault)));
	TRY(read_refused(fixture, setting.device, victim.iova, setting.target, fault_in(&setting, TranslationFault)));
	TRY(write_refused(fixture, setting.device, setting.source, fault_in(&setting, PermissionFault)));
	heard = fixture->faults_heard;

	REFUSES(v1->SetDeviceFaultReporting(setting.device->object, 0, 1, NULL), DMA_IOMMU_NT_INVALID_PARAMETER_4);
	REFUSES(v1->SetDeviceFaultReporting(setting.device->object, 3, 0, NULL), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	SUCCEEDS(v1->SetDeviceFaultReporting(setting.device->object, 0, 0, NULL));
	TRY(write_ignored(setting.device, victim));
	SUCCEEDS(v1->DetachDevice(setting.domain, setting.device->object, 0));
	REFUSES(v1->SetDeviceFaultReporting(setting.device->object, 0, 0, NULL), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	fact_number("faults", (uint64_t)heard);
	detail("silent while off; %d faults told with device, address, type, domain and direction while on", heard);
	return true;
}

static int ex_heard;

static void hear_ex(PVOID context, PFAULT_INFORMATION fault)
{
	struct setting *setting = context;
	PVOID domain = fault->Type == FaultInformationArm64 ? fault->Arm64.DomainHandle : fault->X64.DomainHandle;

	if (domain == (PVOID)setting->domain)
		ex_heard++;
}

bool case_set_device_fault_reporting_ex(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	struct setting setting = { .device = use_edu(fixture), .target = { TARGET_IOVA, use_pages(fixture, 1) } };
	DEVICE_FAULT_CONFIGURATION config = { .FaultHandler = hear_ex, .FaultContext = &setting };
	IOMMU_DMA_DOMAIN_CREATION_FLAGS flags = { 0 };
	struct dma_iommu_fault fault;
	PIOMMU_DMA_DEVICE dma_device;
	bool found;

	TRY(setting.device && setting.target.memory);
	SUCCEEDS(v3->CreateDomainEx(DomainTypeTranslate, flags, NULL, NULL, &setting.domain));
	SUCCEEDS(v3->CreateDevice(setting.device->object, NULL, &dma_device));
	if (windows_compat()) {
		REFUSES(v3->SetDeviceFaultReportingEx(dma_device, 0, 1, &config), DMA_IOMMU_NT_NOT_IMPLEMENTED);
		detail("STATUS_NOT_IMPLEMENTED, as Windows documents");
		return true;
	}
	REFUSES(v3->SetDeviceFaultReportingEx(dma_device, 0, 1, &config), DMA_IOMMU_NT_INVALID_PARAMETER_1);
	SUCCEEDS(v3->AttachDeviceEx(setting.domain, dma_device));
	SUCCEEDS(v3->SetDeviceFaultReportingEx(dma_device, 0, 1, &config));
	ex_heard = 0;
	TRY(edu_write(&setting.device->edu, setting.target.iova, 0, REFUSED_BYTES));
	TRY(dma_iommu_take_fault(&fault, CALLBACK_DEADLINE_MS, &found));
	if (!found || ex_heard != 1 || fault.fault_address != setting.target.iova || fault.type != TranslationFault)
		return failed("expected one fault at 0x%llx, type %u; seen %d, handler called %d times",
			      (unsigned long long)setting.target.iova, TranslationFault, found, ex_heard);
	SUCCEEDS(v3->SetDeviceFaultReportingEx(dma_device, 0, 0, NULL));
	TRY(write_ignored(setting.device, setting.target));
	detail("a fault told while on, none while off (Windows documents STATUS_NOT_IMPLEMENTED; its strict mode says so)");
	return true;
}

bool case_query_input_mappings(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V1 *v1 = &fixture->v1;
	struct device *device = use_edu(fixture);
	INPUT_MAPPING_ELEMENT ids[2], untouched[2];
	ULONG length = 0;

	TRY(device);
	memset(ids, GUARD, sizeof(ids));
	memset(untouched, GUARD, sizeof(untouched));
	if (windows_compat()) {
		REFUSES(v1->QueryInputMappings(device->object, ids, sizeof(ids), &length), DMA_IOMMU_NT_NOT_SUPPORTED);
		detail("STATUS_NOT_SUPPORTED for a device that ACPI did not enumerate");
		return true;
	}
	REFUSES(v1->QueryInputMappings(device->object, ids, 3, &length), DMA_IOMMU_NT_BUFFER_TOO_SMALL);
	if (length != sizeof(ids[0]) || memcmp(ids, untouched, sizeof(ids)) != 0)
		return failed("short buffer: expected length %zu and nothing written, seen %u and 0x%x", sizeof(ids[0]),
			      length, ids[0].InputMappingId);
	SUCCEEDS(v1->QueryInputMappings(device->object, ids, sizeof(ids), &length));
	if (length != sizeof(ids[0]) || ids[0].InputMappingId != device->requester_id ||
	    ids[1].InputMappingId != untouched[1].InputMappingId)
		return failed("expected the one id 0x%x, seen %u bytes: 0x%x, 0x%x", device->requester_id, length,
			      ids[0].InputMappingId, ids[1].InputMappingId);
	REFUSES(v1->QueryInputMappings(dma_iommu_device_object("0000:ff:1f.7"), ids, sizeof(ids), &length),
		DMA_IOMMU_NT_NOT_FOUND);
	fact_number("inputMappingId", ids[0].InputMappingId);
	detail("id 0x%x of %s; a short buffer was left alone and %u bytes asked for", ids[0].InputMappingId,
	       device->edu.address, length);
	return true;
}

bool case_query_available_domain_types(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	struct device *device = use_edu(fixture);
	IOMMU_DMA_DOMAIN_CREATION_FLAGS flags = { 0 };
	PIOMMU_DMA_DEVICE dma_device;
	ULONG types = 0, wrong = 0xffffffff;

	TRY(device);
	SUCCEEDS(v3->CreateDevice(device->object, NULL, &dma_device));
	v3->QueryAvailableDomainTypes(dma_device, &types);
	if (types >> DomainTypeMax != 0 || !(types & 1u << DomainTypeTranslate))
		return failed("expected a mask of domain types with Translate, seen 0x%x", types);
	/* What it says is there can be attached to. */
	for (unsigned type = 0; type < DomainTypeMax; type++) {
		PIOMMU_DMA_DOMAIN domain;

		SUCCEEDS(v3->CreateDomainEx((IOMMU_DMA_DOMAIN_TYPE)type, flags, NULL, NULL, &domain));
		if (types & 1u << type) {
			SUCCEEDS(v3->AttachDeviceEx(domain, dma_device));
			SUCCEEDS(v3->DetachDeviceEx(dma_device));
		} else {
			REFUSES(v3->AttachDeviceEx(domain, dma_device), DMA_IOMMU_NT_ACCESS_DENIED);
		}
	}
	v3->QueryAvailableDomainTypes(NULL, &wrong);
	if (wrong != 0)
		return failed("expected no types for a device that is none, seen 0x%x", wrong);
	fact_number("availableDomainTypes", types);
	detail("mask 0x%x, and the device was attached to one of each", types);
	return true;
}

static int calls;
static ULONG told_types;

static void state_changed(PIOMMU_INTERFACE_STATE_CHANGE change, PVOID context)
{
	/* Someone else's context does not count. */
	if (context == &told_types && change->PresentFields.AvailableDomainTypes) {
		calls++;
		told_types = change->AvailableDomainTypes;
	}
}

static void other_callback(PIOMMU_INTERFACE_STATE_CHANGE change, PVOID context)
{
	(void)change;
	(void)context;
	calls += 1000;
}

static bool registered(struct fixture *fixture, PIOMMU_DMA_DEVICE *dma_device)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_INTERFACE_STATE_CHANGE_FIELDS fields = { .AvailableDomainTypes = 1 };
	struct device *device = use_edu(fixture);

	TRY(device);
	calls = 0;
	SUCCEEDS(v3->CreateDevice(device->object, NULL, dma_device));
	SUCCEEDS(v3->RegisterInterfaceStateChangeCallback(state_changed, &told_types, *dma_device, &fields));
	if (calls == 0)
		dma_iommu_dispatch_state_changes(CALLBACK_DEADLINE_MS);
	return calls == 1 || failed("expected one call at once, seen %d", calls);
}

bool case_register_callback(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_INTERFACE_STATE_CHANGE_FIELDS fields = { .AvailableDomainTypes = 1 }, none = { 0 };
	PIOMMU_DMA_DEVICE dma_device;
	ULONG types;

	TRY(registered(fixture, &dma_device));
	v3->QueryAvailableDomainTypes(dma_device, &types);
	if (told_types != types)
		return failed("expected the callback to be told types 0x%x, seen 0x%x", types, told_types);
	REFUSES(v3->RegisterInterfaceStateChangeCallback(other_callback, NULL, dma_device, &fields),
		DMA_IOMMU_NT_UNSUCCESSFUL);
	REFUSES(v3->RegisterInterfaceStateChangeCallback(other_callback, NULL, dma_device, &none),
		DMA_IOMMU_NT_INVALID_PARAMETER_4);
	dma_iommu_dispatch_state_changes(50);
	if (calls != 1)
		return failed("expected no call for what was refused, seen %d more", calls - 1);
	detail("called once, at once, with domain types 0x%x; a second one for the device refused", told_types);
	return true;
}

bool case_unregister_callback(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_INTERFACE_STATE_CHANGE_FIELDS fields = { .AvailableDomainTypes = 1 };
	PIOMMU_DMA_DEVICE dma_device;

	TRY(registered(fixture, &dma_device));
	REFUSES(v3->UnregisterInterfaceStateChangeCallback(other_callback, dma_device), DMA_IOMMU_NT_UNSUCCESSFUL);
	SUCCEEDS(v3->UnregisterInterfaceStateChangeCallback(state_changed, dma_device));
	REFUSES(v3->UnregisterInterfaceStateChangeCallback(state_changed, dma_device), DMA_IOMMU_NT_UNSUCCESSFUL);
	/* There is room for one again. */
	SUCCEEDS(v3->RegisterInterfaceStateChangeCallback(state_changed, &told_types, dma_device, &fields));
	if (calls == 1)
		dma_iommu_dispatch_state_changes(CALLBACK_DEADLINE_MS);
	if (calls != 2)
		return failed("expected a second call after registering again, seen %d", calls - 1);
	SUCCEEDS(v3->UnregisterInterfaceStateChangeCallback(state_changed, dma_device));
	detail("refused for one never registered, done once, refused the second time, and the device is free for another");
	return true;
}
