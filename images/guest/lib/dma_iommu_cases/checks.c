#include "dma_iommu_cases/checks.h"

#include <string.h>

#define FAULT_DEADLINE_MS 10000
/* How long a fault that must not come is waited for. */
#define QUIET_MS 50

static uint64_t next_seed = 1;

static unsigned long long printable(uint64_t value)
{
	return value;
}

bool moves(struct device *device, struct place from, struct place to, uint32_t count)
{
	uint32_t offset = (uint32_t)(to.iova % SMALL_PAGE), rest;

	rest = offset + count < SMALL_PAGE ? (uint32_t)SMALL_PAGE - offset - count : 0;
	fill_pattern(from.memory, count, next_seed++);
	memset(to.memory, GUARD, count + rest);
	TRY(edu_read(&device->edu, from.iova, 0, count) && edu_write(&device->edu, to.iova, 0, count));
	TRY(same_bytes(from.memory, to.memory, count, "what the device moved"));
	return all_bytes(to.memory + count, rest, GUARD, "memory behind what the device wrote");
}

static void hear_fault(PVOID context, PFAULT_INFORMATION fault)
{
	struct fixture *fixture = context;

	fixture->faults_heard++;
	fixture->last_fault = *fault;
}

bool report_faults(struct fixture *fixture, struct device *device)
{
	DEVICE_FAULT_CONFIGURATION config = { .FaultHandler = hear_fault, .FaultContext = fixture };

	SUCCEEDS(fixture->v1.SetDeviceFaultReporting(device->object, 0, 1, &config));
	return true;
}

/* What the handler was told, against the entry of the ring. */
static bool check_heard(const struct fixture *fixture, const struct dma_iommu_fault *fault)
{
	const FAULT_INFORMATION *heard = &fixture->last_fault;
	bool arm64 = heard->Type == FaultInformationArm64;
	PVOID domain = arm64 ? heard->Arm64.DomainHandle : heard->X64.DomainHandle;
	PVOID address = arm64 ? heard->Arm64.FaultAddress : heard->X64.FaultAddress;
	uint32_t type = arm64 ? heard->Arm64.Type : heard->X64.Type;
	bool valid = arm64 ? heard->Arm64.Flags.FaultAddressValid : heard->X64.Flags.FaultAddressValid;

	if ((uint32_t)(uintptr_t)domain != fault->domain || (uintptr_t)address != fault->fault_address ||
	    type != fault->type || !valid)
		return failed("the fault handler was told domain %u, address %p, type %u; the ring says %u, 0x%llx, %u",
			      (uint32_t)(uintptr_t)domain, address, type, fault->domain,
			      printable(fault->fault_address), fault->type);
	if (arm64 && heard->Arm64.Flags.WriteNotRead != (fault->access == WRITE))
		return failed("the fault handler was told WriteNotRead %u for access %u",
			      heard->Arm64.Flags.WriteNotRead, fault->access);
	return true;
}

static bool take_fault(struct fixture *fixture, struct device *device, uint64_t iova, uint32_t access,
		       struct wanted_fault wanted)
{
	struct dma_iommu_fault fault;
	int heard = fixture->faults_heard;
	bool found;

	TRY(dma_iommu_take_fault(&fault, FAULT_DEADLINE_MS, &found));
	if (!found)
		return failed("expected a fault of %s at 0x%llx, seen none", device->edu.address, printable(iova));
	if (fault.requester_id != device->requester_id || fault.fault_address / SMALL_PAGE != iova / SMALL_PAGE ||
	    fault.access != access || fault.type != wanted.type || fault.domain != wanted.domain ||
	    fault.pasid != wanted.pasid)
		return failed("expected a fault of device 0x%x, address 0x%llx, access %u, type %u, domain %u, PASID %d; "
			      "seen 0x%x, 0x%llx, %u, %u, %u, %d",
			      device->requester_id, printable(iova), access, wanted.type, wanted.domain, wanted.pasid,
			      fault.requester_id, printable(fault.fault_address), fault.access, fault.type,
			      fault.domain, fault.pasid);
	if (fixture->faults_heard != heard + 1)
		return failed("expected the fault handler to be called once, seen %d times",
			      fixture->faults_heard - heard);
	return check_heard(fixture, &fault) && no_fault();
}

bool no_fault(void)
{
	struct dma_iommu_fault fault;
	bool found;

	TRY(dma_iommu_take_fault(&fault, QUIET_MS, &found));
	return !found || failed("expected no fault, seen one of device 0x%x at 0x%llx, type %u", fault.requester_id,
				printable(fault.fault_address), fault.type);
}

static bool write_without_effect(struct device *device, struct place victim)
{
	memset(victim.memory, GUARD, REFUSED_BYTES);
	TRY(edu_write(&device->edu, victim.iova, 0, REFUSED_BYTES));
	return all_bytes(victim.memory, REFUSED_BYTES, GUARD, "memory after a DMA that must be refused");
}

bool write_refused(struct fixture *fixture, struct device *device, struct place victim, struct wanted_fault wanted)
{
	return write_without_effect(device, victim) && take_fault(fixture, device, victim.iova, WRITE, wanted);
}

bool write_ignored(struct device *device, struct place victim)
{
	return write_without_effect(device, victim) && no_fault();
}

bool read_refused(struct fixture *fixture, struct device *device, uint64_t iova, struct place landing,
		  struct wanted_fault wanted)
{
	memset(landing.memory, GUARD, REFUSED_BYTES);
	TRY(edu_read(&device->edu, iova, 0, REFUSED_BYTES));
	TRY(take_fault(fixture, device, iova, READ, wanted));
	TRY(edu_write(&device->edu, landing.iova, 0, REFUSED_BYTES));
	return all_bytes(landing.memory, REFUSED_BYTES, 0xff, "what the device got from a read that must be refused");
}

bool probe_finds(struct fixture *fixture, struct device *device, uint64_t iova, const void *memory, uint32_t source,
		 bool stale)
{
	uint64_t physical = physical_of(fixture, memory);
	struct dma_iommu_probe probe;

	TRY(dma_iommu_probe(device->object, -1, iova, READ, &probe));
	if (!probe.translated || probe.physical != physical || probe.source != source || probe.stale != stale)
		return failed("probe of 0x%llx: expected 0x%llx from source %u, stale %d; seen translated %d, 0x%llx "
			      "from source %u, stale %d",
			      printable(iova), printable(physical), source, stale, probe.translated,
			      printable(probe.physical), probe.source, probe.stale);
	return true;
}

bool probe_refuses(struct device *device, uint64_t iova, uint32_t access, uint32_t fault_type)
{
	struct dma_iommu_probe probe;

	TRY(dma_iommu_probe(device->object, -1, iova, access, &probe));
	if (probe.translated || probe.fault_type != fault_type)
		return failed("probe of 0x%llx: expected fault type %u, seen translated %d, fault type %u",
			      printable(iova), fault_type, probe.translated, probe.fault_type);
	return true;
}

bool map_page(struct fixture *fixture, PIOMMU_DMA_DOMAIN domain, struct place place, ULONG permissions)
{
	PFN_NUMBER frame = frame_of(fixture, place.memory);
	MDL mdl = { .ByteCount = SMALL_PAGE, .Pages = &frame };

	SUCCEEDS(fixture->v1.MapLogicalRange(domain, permissions, &mdl, place.iova));
	return true;
}

bool use_setting(struct fixture *fixture, struct setting *setting)
{
	setting->device = use_edu(fixture);
	setting->source = (struct place){ SOURCE_IOVA, use_pages(fixture, 1) };
	setting->target = (struct place){ TARGET_IOVA, use_pages(fixture, 1) };
	TRY(setting->device && setting->source.memory && setting->target.memory);
	SUCCEEDS(fixture->v1.CreateDomain(1, &setting->domain));
	SUCCEEDS(fixture->v1.AttachDevice(setting->domain, setting->device->object, 0, 1));
	TRY(map_page(fixture, setting->domain, setting->source, READ));
	TRY(map_page(fixture, setting->domain, setting->target, READ_WRITE));
	return report_faults(fixture, setting->device);
}

bool setting_works(const struct setting *setting)
{
	return moves(setting->device, setting->source, setting->target, EDU_BUFFER_SIZE);
}

struct wanted_fault fault_in(const struct setting *setting, uint32_t type)
{
	return (struct wanted_fault){
		.type = type, .domain = dma_iommu_domain_number(setting->domain), .pasid = -1
	};
}
