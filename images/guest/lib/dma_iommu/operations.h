/* The operations one by one; programs reach them through IoGetIommuInterfaceEx(). */
#ifndef LIB_DMA_IOMMU_OPERATIONS_H
#define LIB_DMA_IOMMU_OPERATIONS_H

#include "dma_iommu/unit.h"

/* domain.c */
NTSTATUS IommuDomainCreate(BOOLEAN OsManagedPageTable, PIOMMU_DMA_DOMAIN *DomainOut);
NTSTATUS IommuDomainCreateEx(IOMMU_DMA_DOMAIN_TYPE DomainType, IOMMU_DMA_DOMAIN_CREATION_FLAGS Flags,
			     PIOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG LogicalAllocatorConfig,
			     PIOMMU_DMA_RESERVED_REGION ReservedRegions, PIOMMU_DMA_DOMAIN *DomainOut);
NTSTATUS IommuDomainDelete(PIOMMU_DMA_DOMAIN Domain);
NTSTATUS IommuDomainConfigure(PIOMMU_DMA_DOMAIN Domain, PDOMAIN_CONFIGURATION Configuration);
NTSTATUS IommuFlushDomain(PIOMMU_DMA_DOMAIN Domain);
NTSTATUS IommuFlushDomainVaList(PIOMMU_DMA_DOMAIN Domain, BOOLEAN LastLevel, ULONG Number, PVOID VaList);

/* device.c */
NTSTATUS IommuDomainAttachDevice(PIOMMU_DMA_DOMAIN Domain, PDEVICE_OBJECT PhysicalDeviceObject,
				 ULONG InputMappingIdBase, ULONG MappingCount);
NTSTATUS IommuDomainDetachDevice(PIOMMU_DMA_DOMAIN Domain, PDEVICE_OBJECT PhysicalDeviceObject,
				 ULONG InputMappingId);
NTSTATUS IommuDomainAttachDeviceEx(PIOMMU_DMA_DOMAIN Domain, PIOMMU_DMA_DEVICE DmaDevice);
NTSTATUS IommuDomainDetachDeviceEx(PIOMMU_DMA_DEVICE DmaDevice);
NTSTATUS IommuQueryInputMappings(PDEVICE_OBJECT PhysicalDeviceObject, PINPUT_MAPPING_ELEMENT Buffer,
				 ULONG BufferLength, PULONG ReturnLength);
NTSTATUS IommuDeviceCreate(PDEVICE_OBJECT DeviceObject, PIOMMU_DEVICE_CREATION_CONFIGURATION DeviceConfig,
			   PIOMMU_DMA_DEVICE *DmaDeviceOut);
NTSTATUS IommuDeviceDelete(PIOMMU_DMA_DEVICE DmaDevice);
void IommuDeviceQueryDomainTypes(PIOMMU_DMA_DEVICE DmaDevice, PULONG AvailableDomains);
NTSTATUS IommuDeviceQueryInformation(PIOMMU_DMA_DEVICE DmaDevice, ULONG Size, PULONG BytesWritten,
				     PIOMMU_DMA_DEVICE_INFORMATION Buffer);
NTSTATUS IommuPasidDeviceCreate(PIOMMU_DMA_DEVICE DmaDevice, PIOMMU_DMA_PASID_DEVICE *PasidDeviceOut, PULONG AsidOut);
NTSTATUS IommuPasidDeviceDelete(PIOMMU_DMA_PASID_DEVICE PasidDevice);
NTSTATUS IommuDomainAttachPasidDevice(PIOMMU_DMA_DOMAIN Domain, PIOMMU_DMA_PASID_DEVICE PasidDevice);
NTSTATUS IommuDomainDetachPasidDevice(PIOMMU_DMA_PASID_DEVICE PasidDevice);

/* map.c */
NTSTATUS IommuMapLogicalRange(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, PMDL Mdl, ULONGLONG LogicalAddress);
NTSTATUS IommuMapLogicalRangeEx(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions,
				PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap,
				PIOMMU_DMA_LOGICAL_ADDRESS ExplicitLogicalAddress,
				PIOMMU_DMA_LOGICAL_ADDRESS MinLogicalAddress,
				PIOMMU_DMA_LOGICAL_ADDRESS MaxLogicalAddress,
				PIOMMU_DMA_LOGICAL_ADDRESS LogicalAddressOut);
NTSTATUS IommuUnmapLogicalRange(PIOMMU_DMA_DOMAIN Domain, ULONGLONG LogicalAddress, ULONGLONG NumberOfPages);
NTSTATUS IommuMapIdentityRange(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, PMDL Mdl);
NTSTATUS IommuMapIdentityRangeEx(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions,
				 PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap);
NTSTATUS IommuUnmapIdentityRange(PIOMMU_DMA_DOMAIN Domain, PMDL Mdl);
NTSTATUS IommuUnmapIdentityRangeEx(PIOMMU_DMA_DOMAIN Domain, PIOMMU_MAP_PHYSICAL_ADDRESS MappedPhysicalAddress);

/* reserve.c */
NTSTATUS IommuReserveLogicalAddressRange(PIOMMU_DMA_DOMAIN Domain, SIZE_T Size,
					 PIOMMU_DMA_LOGICAL_ADDRESS ExplicitLogicalAddress,
					 PIOMMU_DMA_LOGICAL_ADDRESS MinLogicalAddress,
					 PIOMMU_DMA_LOGICAL_ADDRESS MaxLogicalAddress,
					 PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN *LogicalAddressToken);
NTSTATUS IommuFreeReservedLogicalAddressRange(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN LogicalAddressToken);
NTSTATUS IommuMapReservedLogicalRange(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN LogicalAddressToken, SIZE_T Offset,
				      ULONG Permissions, PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap,
				      PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT MappedSegment);
NTSTATUS IommuUnmapReservedLogicalRange(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT MappedSegment);

/* report.c */
NTSTATUS IommuSetDeviceFaultReporting(PDEVICE_OBJECT PhysicalDeviceObject, ULONG InputMappingIdBase, BOOLEAN Enable,
				      PDEVICE_FAULT_CONFIGURATION FaultConfig);
NTSTATUS IommuSetDeviceFaultReportingEx(PIOMMU_DMA_DEVICE DmaDevice, ULONG InputMappingIdBase, BOOLEAN Enable,
					PDEVICE_FAULT_CONFIGURATION FaultConfig);
NTSTATUS IommuRegisterInterfaceStateChangeCallback(PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK StateChangeCallback,
						   PVOID Context, PIOMMU_DMA_DEVICE DmaDevice,
						   PIOMMU_INTERFACE_STATE_CHANGE_FIELDS StateFields);
NTSTATUS
IommuUnregisterInterfaceStateChangeCallback(PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK StateChangeCallback,
					    PIOMMU_DMA_DEVICE DmaDevice);

/* memory.c: what describes memory in the argument of a command. False: it does not fit, and failed() has been called. */
bool describe_mdl(const MDL *mdl, struct dma_iommu_memory *memory);
bool describe_memory(const IOMMU_MAP_PHYSICAL_ADDRESS *address, struct dma_iommu_memory *memory);

/* The number by which the function knows what an opaque pointer stands for. */
static inline uint32_t number_of(const void *handle)
{
	return (uint32_t)(uintptr_t)handle;
}

static inline void *handle_of(uint32_t number)
{
	return (void *)(uintptr_t)number;
}

/* Requester id of a device object. */
static inline uint32_t pdo_of(PDEVICE_OBJECT object)
{
	return (uint32_t)(uintptr_t)object & 0xffffu;
}

/* Runs a command whose completion brings nothing but its status. */
static inline NTSTATUS run_plain(struct dma_iommu_command *command)
{
	struct dma_iommu_completion completion;

	return dma_iommu_run(command, &completion);
}

#endif
