#include "cases.h"

bool leave_domain(struct fixture *fixture, const struct setting *setting)
{
	SUCCEEDS(fixture->v1.DetachDevice(setting->domain, setting->device->object, 0));
	SUCCEEDS(fixture->v1.DeleteDomain(setting->domain));
	return true;
}

bool leave_setting(struct fixture *fixture, const struct setting *setting)
{
	SUCCEEDS(fixture->v1.UnmapLogicalRange(setting->domain, setting->source.iova, 1));
	SUCCEEDS(fixture->v1.UnmapLogicalRange(setting->domain, setting->target.iova, 1));
	return leave_domain(fixture, setting);
}

bool leave_callers(struct fixture *fixture, struct callers *callers)
{
	TRY(clear_entry(&callers->tables, callers->setting.source.iova, 1));
	TRY(clear_entry(&callers->tables, callers->setting.target.iova, 1));
	SUCCEEDS(fixture->v1.FlushDomain(callers->setting.domain));
	return leave_domain(fixture, &callers->setting);
}

void fact_access(const struct setting *setting, uint64_t iova)
{
	fact_address("iova", iova);
	fact_number("domain", dma_iommu_domain_number(setting->domain));
	fact_number("requesterId", setting->device->requester_id);
}
