/*
 * DMA_IOMMU_INTERFACE and DMA_IOMMU_INTERFACE_EX, versions 1 to 3, as wdm.h names them, for a program in user space that
 * drives the dma-iommu function. What is meant by each is told in docs/dma-iommu-interface.md.
 *
 * Where user space is no kernel: a device object stands for a requester id, and an MDL is a list of page frames.
 */
#ifndef LIB_DMA_IOMMU_WDM_IOMMU_H
#define LIB_DMA_IOMMU_WDM_IOMMU_H

#include <stddef.h>
#include <stdint.h>

typedef uint32_t NTSTATUS;
typedef uint8_t BOOLEAN, UCHAR;
typedef uint32_t ULONG, UINT32, *PULONG;
typedef uint64_t ULONGLONG, ULONG64, PHYSICAL_ADDRESS, PFN_NUMBER, *PPFN_NUMBER;
typedef size_t SIZE_T;
typedef void *PVOID;
typedef struct _LIST_ENTRY {
	struct _LIST_ENTRY *Flink, *Blink;
} LIST_ENTRY;

#define NT_SUCCESS(status) ((status) < 0x80000000u)

typedef struct _DEVICE_OBJECT *PDEVICE_OBJECT;
typedef struct _IOMMU_DMA_DOMAIN *PIOMMU_DMA_DOMAIN;
typedef struct _IOMMU_DMA_DEVICE *PIOMMU_DMA_DEVICE;
typedef struct _IOMMU_DMA_PASID_DEVICE *PIOMMU_DMA_PASID_DEVICE;
typedef ULONGLONG IOMMU_DMA_LOGICAL_ADDRESS, *PIOMMU_DMA_LOGICAL_ADDRESS;

/* The whole of `ByteCount` bytes begins at `ByteOffset` in the first of the pages. */
typedef struct _MDL {
	SIZE_T ByteCount;
	ULONG ByteOffset;
	const PFN_NUMBER *Pages;
} MDL, *PMDL;

typedef enum {
	DomainTypeTranslate,
	DomainTypePassThrough,
	DomainTypeUnmanaged,
	DomainTypeTranslateS1,
	DomainTypeMax
} IOMMU_DMA_DOMAIN_TYPE;

typedef enum {
	MapPhysicalAddressTypeMdl,
	MapPhysicalAddressTypeContiguousRange,
	MapPhysicalAddressTypePfn,
	MapPhysicalAddressTypeMax
} IOMMU_MAP_PHYSICAL_ADDRESS_TYPE;

typedef struct _IOMMU_MAP_PHYSICAL_ADDRESS {
	IOMMU_MAP_PHYSICAL_ADDRESS_TYPE MapType;
	union {
		struct {
			PMDL Mdl;
		} Mdl;
		struct {
			PHYSICAL_ADDRESS Base;
			SIZE_T Size;
		} ContiguousRange;
		struct {
			const PFN_NUMBER *PageFrame;
			SIZE_T NumberOfPages;
		} PfnArray;
	};
} IOMMU_MAP_PHYSICAL_ADDRESS, *PIOMMU_MAP_PHYSICAL_ADDRESS;

typedef struct _IOMMU_DMA_RESERVED_REGION {
	struct _IOMMU_DMA_RESERVED_REGION *RegionNext;
	IOMMU_DMA_LOGICAL_ADDRESS Base;
	SIZE_T NumberOfPages;
	BOOLEAN ShouldMap;
} IOMMU_DMA_RESERVED_REGION, *PIOMMU_DMA_RESERVED_REGION;

typedef enum {
	IommuDmaLogicalAllocatorNone,
	IommuDmaLogicalAllocatorBuddy,
	IommuDmaLogicalAllocatorMax
} IOMMU_DMA_LOGICAL_ALLOCATOR_TYPE;

typedef struct _IOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG {
	IOMMU_DMA_LOGICAL_ALLOCATOR_TYPE LogicalAllocatorType;
	union {
		struct {
			ULONG AddressWidth;
		} BuddyAllocatorConfig;
	};
} IOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG, *PIOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG;

typedef union _IOMMU_DMA_DOMAIN_CREATION_FLAGS {
	ULONGLONG AsUlonglong;
} IOMMU_DMA_DOMAIN_CREATION_FLAGS;

typedef struct _IOMMU_DMA_LOGICAL_ADDRESS_TOKEN {
	IOMMU_DMA_LOGICAL_ADDRESS LogicalAddressBase;
	SIZE_T Size;
} IOMMU_DMA_LOGICAL_ADDRESS_TOKEN, *PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN;

typedef struct _IOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT {
	PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN OwningToken;
	SIZE_T Offset;
	SIZE_T Size;
	ULONG Handle; /* not in wdm.h: the function's name for the segment */
} IOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT, *PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT;

typedef enum _DOMAIN_CONFIGURATION_ARCH {
	DomainConfigurationArm64,
	DomainConfigurationX64,
	DomainConfigurationInvalid
} DOMAIN_CONFIGURATION_ARCH;

typedef struct _DOMAIN_CONFIGURATION_ARM64 {
	PHYSICAL_ADDRESS Ttbr0, Ttbr1;
	ULONG Mair0, Mair1;
	UCHAR InputSize0, InputSize1;
	BOOLEAN CoherentTableWalks, TranslationEnabled;
	ULONG Granule; /* not in wdm.h: KiB; 0 stands for 4 */
} DOMAIN_CONFIGURATION_ARM64;

typedef struct _DOMAIN_CONFIGURATION_X64 {
	PHYSICAL_ADDRESS FirstLevelPageTableRoot;
	BOOLEAN TranslationEnabled;
	ULONG Levels; /* not in wdm.h; 0 stands for 4 */
} DOMAIN_CONFIGURATION_X64;

typedef struct _DOMAIN_CONFIGURATION {
	DOMAIN_CONFIGURATION_ARCH Type;
	union {
		DOMAIN_CONFIGURATION_ARM64 Arm64;
		DOMAIN_CONFIGURATION_X64 X64;
	};
} DOMAIN_CONFIGURATION, *PDOMAIN_CONFIGURATION;

typedef struct _INPUT_MAPPING_ELEMENT {
	ULONG InputMappingId;
} INPUT_MAPPING_ELEMENT, *PINPUT_MAPPING_ELEMENT;

typedef enum _FAULT_INFORMATION_ARCH {
	FaultInformationInvalid,
	FaultInformationArm64,
	FaultInformationX64
} FAULT_INFORMATION_ARCH;

typedef enum _FAULT_INFORMATION_ARM64_TYPE {
	UnsupportedUpstreamTransaction,
	AddressSizeFault,
	TlbMatchConflict,
	ExternalFault,
	PermissionFault,
	AccessFlagFault,
	TranslationFault,
	MaxFaultType
} FAULT_INFORMATION_ARM64_TYPE;

typedef struct _FAULT_INFORMATION_ARM64_FLAGS {
	ULONG WriteNotRead : 1, InstructionNotData : 1, Privileged : 1, FaultAddressValid : 1, Reserved : 28;
} FAULT_INFORMATION_ARM64_FLAGS;

typedef struct _FAULT_INFORMATION_ARM64 {
	PVOID DomainHandle, FaultAddress;
	PDEVICE_OBJECT PhysicalDeviceObject;
	ULONG InputMappingId;
	FAULT_INFORMATION_ARM64_FLAGS Flags;
	FAULT_INFORMATION_ARM64_TYPE Type;
	ULONG64 IommuBaseAddress;
} FAULT_INFORMATION_ARM64;

typedef struct _FAULT_INFORMATION_X64_FLAGS {
	ULONG FaultAddressValid : 1, Reserved : 31;
} FAULT_INFORMATION_X64_FLAGS;

typedef struct _FAULT_INFORMATION_X64 {
	PVOID DomainHandle, FaultAddress;
	FAULT_INFORMATION_X64_FLAGS Flags;
	FAULT_INFORMATION_ARM64_TYPE Type;
	ULONG64 IommuBaseAddress;
	ULONG PciSegment;
} FAULT_INFORMATION_X64;

typedef struct _FAULT_INFORMATION {
	FAULT_INFORMATION_ARCH Type;
	BOOLEAN IsStage1;
	union {
		FAULT_INFORMATION_ARM64 Arm64;
		FAULT_INFORMATION_X64 X64;
	};
} FAULT_INFORMATION, *PFAULT_INFORMATION;

typedef void IOMMU_DEVICE_FAULT_HANDLER(PVOID Context, PFAULT_INFORMATION FaultInformation);
typedef IOMMU_DEVICE_FAULT_HANDLER *PIOMMU_DEVICE_FAULT_HANDLER;

typedef struct _DEVICE_FAULT_CONFIGURATION {
	PIOMMU_DEVICE_FAULT_HANDLER FaultHandler;
	PVOID FaultContext;
} DEVICE_FAULT_CONFIGURATION, *PDEVICE_FAULT_CONFIGURATION;

typedef union _IOMMU_INTERFACE_STATE_CHANGE_FIELDS {
	struct {
		ULONG AvailableDomainTypes : 1, Reserved : 31;
	};
	ULONG AsULONG;
} IOMMU_INTERFACE_STATE_CHANGE_FIELDS, *PIOMMU_INTERFACE_STATE_CHANGE_FIELDS;

typedef struct _IOMMU_INTERFACE_STATE_CHANGE {
	IOMMU_INTERFACE_STATE_CHANGE_FIELDS PresentFields;
	ULONG AvailableDomainTypes;
} IOMMU_INTERFACE_STATE_CHANGE, *PIOMMU_INTERFACE_STATE_CHANGE;

typedef void IOMMU_INTERFACE_STATE_CHANGE_CALLBACK(PIOMMU_INTERFACE_STATE_CHANGE StateChange, PVOID Context);
typedef IOMMU_INTERFACE_STATE_CHANGE_CALLBACK *PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK;

typedef enum {
	IommuDeviceCreationConfigTypeNone,
	IommuDeviceCreationConfigTypeAcpi,
	IommuDeviceCreationConfigTypeDeviceId,
	IommuDeviceCreationConfigTypePasid,
	IommuDeviceCreationConfigTypeMax
} IOMMU_DEVICE_CREATION_CONFIGURATION_TYPE;

typedef enum {
	PasidConfigTypeDefaultPasidOnly,
	PasidConfigTypePasidTaggedDma,
	PasidConfigTypeMax
} IOMMU_PASID_CONFIGURATION_TYPE;

/* A list: NextConfiguration.Flink leads to the next, NULL ends it. */
typedef struct _IOMMU_DEVICE_CREATION_CONFIGURATION {
	LIST_ENTRY NextConfiguration;
	IOMMU_DEVICE_CREATION_CONFIGURATION_TYPE ConfigType;
	union {
		struct {
			UINT32 InputMappingBase, MappingsCount;
		} Acpi;
		PVOID DeviceId;
		struct {
			IOMMU_PASID_CONFIGURATION_TYPE ConfigType;
			BOOLEAN SuppressPasidFaults;
		} Pasid;
	};
} IOMMU_DEVICE_CREATION_CONFIGURATION, *PIOMMU_DEVICE_CREATION_CONFIGURATION;

typedef struct _IOMMU_DMA_DEVICE_INFORMATION {
	BOOLEAN DefaultPasidEnabled, PasidTaggedDmaEnabled, PasidFaultsSuppressed;
} IOMMU_DMA_DEVICE_INFORMATION, *PIOMMU_DMA_DEVICE_INFORMATION;

typedef struct _DMA_IOMMU_INTERFACE_V1 {
	NTSTATUS (*CreateDomain)(BOOLEAN OsManagedPageTable, PIOMMU_DMA_DOMAIN *DomainOut);
	NTSTATUS (*DeleteDomain)(PIOMMU_DMA_DOMAIN Domain);
	NTSTATUS (*AttachDevice)(PIOMMU_DMA_DOMAIN Domain, PDEVICE_OBJECT PhysicalDeviceObject,
				 ULONG InputMappingIdBase, ULONG MappingCount);
	NTSTATUS (*DetachDevice)(PIOMMU_DMA_DOMAIN Domain, PDEVICE_OBJECT PhysicalDeviceObject, ULONG InputMappingId);
	NTSTATUS (*FlushDomain)(PIOMMU_DMA_DOMAIN Domain);
	NTSTATUS (*FlushDomainByVaList)(PIOMMU_DMA_DOMAIN Domain, BOOLEAN LastLevel, ULONG Number, PVOID VaList);
	NTSTATUS (*QueryInputMappings)(PDEVICE_OBJECT PhysicalDeviceObject, PINPUT_MAPPING_ELEMENT Buffer,
				       ULONG BufferLength, PULONG ReturnLength);
	NTSTATUS (*MapLogicalRange)(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, PMDL Mdl, ULONGLONG LogicalAddress);
	NTSTATUS (*UnmapLogicalRange)(PIOMMU_DMA_DOMAIN Domain, ULONGLONG LogicalAddress, ULONGLONG NumberOfPages);
	NTSTATUS (*MapIdentityRange)(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, PMDL Mdl);
	NTSTATUS (*UnmapIdentityRange)(PIOMMU_DMA_DOMAIN Domain, PMDL Mdl);
	NTSTATUS (*SetDeviceFaultReporting)(PDEVICE_OBJECT PhysicalDeviceObject, ULONG InputMappingIdBase,
					    BOOLEAN Enable, PDEVICE_FAULT_CONFIGURATION FaultConfig);
	NTSTATUS (*ConfigureDomain)(PIOMMU_DMA_DOMAIN Domain, PDOMAIN_CONFIGURATION Configuration);
} DMA_IOMMU_INTERFACE_V1, *PDMA_IOMMU_INTERFACE_V1;

#define DMA_IOMMU_INTERFACE_V2_MEMBERS \
	NTSTATUS (*CreateDomainEx)(IOMMU_DMA_DOMAIN_TYPE DomainType, IOMMU_DMA_DOMAIN_CREATION_FLAGS Flags, \
				   PIOMMU_DMA_LOGICAL_ALLOCATOR_CONFIG LogicalAllocatorConfig, \
				   PIOMMU_DMA_RESERVED_REGION ReservedRegions, PIOMMU_DMA_DOMAIN *DomainOut); \
	NTSTATUS (*DeleteDomain)(PIOMMU_DMA_DOMAIN Domain); \
	NTSTATUS (*AttachDeviceEx)(PIOMMU_DMA_DOMAIN Domain, PIOMMU_DMA_DEVICE DmaDevice); \
	NTSTATUS (*DetachDeviceEx)(PIOMMU_DMA_DEVICE DmaDevice); \
	NTSTATUS (*FlushDomain)(PIOMMU_DMA_DOMAIN Domain); \
	NTSTATUS (*FlushDomainByVaList)(PIOMMU_DMA_DOMAIN Domain, BOOLEAN LastLevel, ULONG Number, PVOID VaList); \
	NTSTATUS (*QueryInputMappings)(PDEVICE_OBJECT PhysicalDeviceObject, PINPUT_MAPPING_ELEMENT Buffer, \
				       ULONG BufferLength, PULONG ReturnLength); \
	NTSTATUS (*MapLogicalRangeEx)(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, \
				      PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap, \
				      PIOMMU_DMA_LOGICAL_ADDRESS ExplicitLogicalAddress, \
				      PIOMMU_DMA_LOGICAL_ADDRESS MinLogicalAddress, \
				      PIOMMU_DMA_LOGICAL_ADDRESS MaxLogicalAddress, \
				      PIOMMU_DMA_LOGICAL_ADDRESS LogicalAddressOut); \
	NTSTATUS (*UnmapLogicalRange)(PIOMMU_DMA_DOMAIN Domain, ULONGLONG LogicalAddress, ULONGLONG NumberOfPages); \
	NTSTATUS (*MapIdentityRangeEx)(PIOMMU_DMA_DOMAIN Domain, ULONG Permissions, \
				       PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap); \
	NTSTATUS (*UnmapIdentityRangeEx)(PIOMMU_DMA_DOMAIN Domain, PIOMMU_MAP_PHYSICAL_ADDRESS MappedPhysicalAddress); \
	NTSTATUS (*SetDeviceFaultReportingEx)(PIOMMU_DMA_DEVICE DmaDevice, ULONG InputMappingIdBase, BOOLEAN Enable, \
					      PDEVICE_FAULT_CONFIGURATION FaultConfig); \
	NTSTATUS (*ConfigureDomain)(PIOMMU_DMA_DOMAIN Domain, PDOMAIN_CONFIGURATION Configuration); \
	void (*QueryAvailableDomainTypes)(PIOMMU_DMA_DEVICE DmaDevice, PULONG AvailableDomains); \
	NTSTATUS (*RegisterInterfaceStateChangeCallback)(PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK StateChangeCallback, \
							 PVOID Context, PIOMMU_DMA_DEVICE DmaDevice, \
							 PIOMMU_INTERFACE_STATE_CHANGE_FIELDS StateFields); \
	NTSTATUS (*UnregisterInterfaceStateChangeCallback)(PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK StateChangeCallback, \
							   PIOMMU_DMA_DEVICE DmaDevice); \
	NTSTATUS (*ReserveLogicalAddressRange)(PIOMMU_DMA_DOMAIN Domain, SIZE_T Size, \
					       PIOMMU_DMA_LOGICAL_ADDRESS ExplicitLogicalAddress, \
					       PIOMMU_DMA_LOGICAL_ADDRESS MinLogicalAddress, \
					       PIOMMU_DMA_LOGICAL_ADDRESS MaxLogicalAddress, \
					       PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN *LogicalAddressToken); \
	NTSTATUS (*FreeReservedLogicalAddressRange)(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN LogicalAddressToken); \
	NTSTATUS (*MapReservedLogicalRange)(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN LogicalAddressToken, SIZE_T Offset, \
					    ULONG Permissions, PIOMMU_MAP_PHYSICAL_ADDRESS PhysicalAddressToMap, \
					    PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT MappedSegment); \
	NTSTATUS (*UnmapReservedLogicalRange)(PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT MappedSegment); \
	NTSTATUS (*CreateDevice)(PDEVICE_OBJECT DeviceObject, PIOMMU_DEVICE_CREATION_CONFIGURATION DeviceConfig, \
				 PIOMMU_DMA_DEVICE *DmaDeviceOut); \
	NTSTATUS (*DeleteDevice)(PIOMMU_DMA_DEVICE DmaDevice);

typedef struct _DMA_IOMMU_INTERFACE_V2 {
	DMA_IOMMU_INTERFACE_V2_MEMBERS
} DMA_IOMMU_INTERFACE_V2, *PDMA_IOMMU_INTERFACE_V2;

typedef struct _DMA_IOMMU_INTERFACE_V3 {
	DMA_IOMMU_INTERFACE_V2_MEMBERS
	NTSTATUS (*CreatePasidDevice)(PIOMMU_DMA_DEVICE DmaDevice, PIOMMU_DMA_PASID_DEVICE *PasidDeviceOut,
				      PULONG AsidOut);
	NTSTATUS (*DeletePasidDevice)(PIOMMU_DMA_PASID_DEVICE PasidDevice);
	NTSTATUS (*AttachPasidDevice)(PIOMMU_DMA_DOMAIN Domain, PIOMMU_DMA_PASID_DEVICE PasidDevice);
	NTSTATUS (*DetachPasidDevice)(PIOMMU_DMA_PASID_DEVICE PasidDevice);
	NTSTATUS (*QueryDeviceInfo)(PIOMMU_DMA_DEVICE DmaDevice, ULONG Size, PULONG BytesWritten,
				    PIOMMU_DMA_DEVICE_INFORMATION Buffer);
} DMA_IOMMU_INTERFACE_V3, *PDMA_IOMMU_INTERFACE_V3;

typedef struct _DMA_IOMMU_INTERFACE {
	ULONG Version;
	DMA_IOMMU_INTERFACE_V1 Operations; /* its members lie in the structure itself in wdm.h, at the same places */
} DMA_IOMMU_INTERFACE, *PDMA_IOMMU_INTERFACE;

typedef struct _DMA_IOMMU_INTERFACE_EX {
	SIZE_T Size;
	ULONG Version;
	union {
		DMA_IOMMU_INTERFACE_V1 V1;
		DMA_IOMMU_INTERFACE_V2 V2;
		DMA_IOMMU_INTERFACE_V3 V3;
	};
} DMA_IOMMU_INTERFACE_EX, *PDMA_IOMMU_INTERFACE_EX;

#define DMA_IOMMU_INTERFACE_VERSION_1 1
#define DMA_IOMMU_INTERFACE_EX_VERSION_1 1
#define DMA_IOMMU_INTERFACE_EX_VERSION_2 2
#define DMA_IOMMU_INTERFACE_EX_VERSION_3 3

/* Both leave `InterfaceOut` alone when they fail. The operations need dma_iommu_open(). */
NTSTATUS IoGetIommuInterface(ULONG Version, PDMA_IOMMU_INTERFACE InterfaceOut);
NTSTATUS IoGetIommuInterfaceEx(ULONG Version, ULONGLONG Flags, PDMA_IOMMU_INTERFACE_EX InterfaceOut);

#endif
