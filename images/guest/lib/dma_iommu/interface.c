#include "dma_iommu/operations.h"

#include <string.h>

/* What x64 Windows says in Size. */
_Static_assert(sizeof(DMA_IOMMU_INTERFACE) == 0x70, "DMA_IOMMU_INTERFACE");
_Static_assert(offsetof(DMA_IOMMU_INTERFACE_EX, V1) == 0x10, "DMA_IOMMU_INTERFACE_EX");
_Static_assert(sizeof(DMA_IOMMU_INTERFACE_V1) == 0x68, "DMA_IOMMU_INTERFACE_V1");
_Static_assert(sizeof(DMA_IOMMU_INTERFACE_V2) == 0xb0, "DMA_IOMMU_INTERFACE_V2");
_Static_assert(sizeof(DMA_IOMMU_INTERFACE_V3) == 0xd8, "DMA_IOMMU_INTERFACE_V3");

static const DMA_IOMMU_INTERFACE_V1 version1 = {
	.CreateDomain = IommuDomainCreate,
	.DeleteDomain = IommuDomainDelete,
	.AttachDevice = IommuDomainAttachDevice,
	.DetachDevice = IommuDomainDetachDevice,
	.FlushDomain = IommuFlushDomain,
	.FlushDomainByVaList = IommuFlushDomainVaList,
	.QueryInputMappings = IommuQueryInputMappings,
	.MapLogicalRange = IommuMapLogicalRange,
	.UnmapLogicalRange = IommuUnmapLogicalRange,
	.MapIdentityRange = IommuMapIdentityRange,
	.UnmapIdentityRange = IommuUnmapIdentityRange,
	.SetDeviceFaultReporting = IommuSetDeviceFaultReporting,
	.ConfigureDomain = IommuDomainConfigure,
};

/* Version 2 is the first part of it. */
static const DMA_IOMMU_INTERFACE_V3 version3 = {
	.CreateDomainEx = IommuDomainCreateEx,
	.DeleteDomain = IommuDomainDelete,
	.AttachDeviceEx = IommuDomainAttachDeviceEx,
	.DetachDeviceEx = IommuDomainDetachDeviceEx,
	.FlushDomain = IommuFlushDomain,
	.FlushDomainByVaList = IommuFlushDomainVaList,
	.QueryInputMappings = IommuQueryInputMappings,
	.MapLogicalRangeEx = IommuMapLogicalRangeEx,
	.UnmapLogicalRange = IommuUnmapLogicalRange,
	.MapIdentityRangeEx = IommuMapIdentityRangeEx,
	.UnmapIdentityRangeEx = IommuUnmapIdentityRangeEx,
	.SetDeviceFaultReportingEx = IommuSetDeviceFaultReportingEx,
	.ConfigureDomain = IommuDomainConfigure,
	.QueryAvailableDomainTypes = IommuDeviceQueryDomainTypes,
	.RegisterInterfaceStateChangeCallback = IommuRegisterInterfaceStateChangeCallback,
	.UnregisterInterfaceStateChangeCallback = IommuUnregisterInterfaceStateChangeCallback,
	.ReserveLogicalAddressRange = IommuReserveLogicalAddressRange,
	.FreeReservedLogicalAddressRange = IommuFreeReservedLogicalAddressRange,
	.MapReservedLogicalRange = IommuMapReservedLogicalRange,
	.UnmapReservedLogicalRange = IommuUnmapReservedLogicalRange,
	.CreateDevice = IommuDeviceCreate,
	.DeleteDevice = IommuDeviceDelete,
	.CreatePasidDevice = IommuPasidDeviceCreate,
	.DeletePasidDevice = IommuPasidDeviceDelete,
	.AttachPasidDevice = IommuDomainAttachPasidDevice,
	.DetachPasidDevice = IommuDomainDetachPasidDevice,
	.QueryDeviceInfo = IommuDeviceQueryInformation,
};

NTSTATUS IoGetIommuInterface(ULONG Version, PDMA_IOMMU_INTERFACE InterfaceOut)
{
	if (Version != DMA_IOMMU_INTERFACE_VERSION_1)
		return DMA_IOMMU_NT_INVALID_PARAMETER_1;
	InterfaceOut->Version = Version;
	InterfaceOut->Operations = version1;
	return DMA_IOMMU_NT_SUCCESS;
}

NTSTATUS IoGetIommuInterfaceEx(ULONG Version, ULONGLONG Flags, PDMA_IOMMU_INTERFACE_EX InterfaceOut)
{
	static const size_t sizes[] = {
		[DMA_IOMMU_INTERFACE_EX_VERSION_1] = sizeof(DMA_IOMMU_INTERFACE_V1),
		[DMA_IOMMU_INTERFACE_EX_VERSION_2] = sizeof(DMA_IOMMU_INTERFACE_V2),
		[DMA_IOMMU_INTERFACE_EX_VERSION_3] = sizeof(DMA_IOMMU_INTERFACE_V3),
	};

	if (Version < DMA_IOMMU_INTERFACE_EX_VERSION_1 || Version > DMA_IOMMU_INTERFACE_EX_VERSION_3)
		return DMA_IOMMU_NT_INVALID_PARAMETER_1;
	if (Flags != 0)
		return DMA_IOMMU_NT_INVALID_PARAMETER_3;
	InterfaceOut->Size = offsetof(DMA_IOMMU_INTERFACE_EX, V1) + sizes[Version];
	InterfaceOut->Version = Version;
	/* Not beyond what the version has: a caller of an older one has an older structure. */
	if (Version == DMA_IOMMU_INTERFACE_EX_VERSION_1)
		memcpy(&InterfaceOut->V1, &version1, sizeof(version1));
	else
		memcpy(&InterfaceOut->V3, &version3, sizes[Version]);
	return DMA_IOMMU_NT_SUCCESS;
}
