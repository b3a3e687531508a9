/*
 * The dma-iommu PCI function: registers, rings, commands. Reference: docs/dma-iommu-function.md.
 *
 * Plain C11 for kernel and user space. Everything is little-endian. Physical addresses are guest-physical. A test compares every
 * number here with the device's own definition.
 */
#ifndef DMA_IOMMU_H
#define DMA_IOMMU_H

#include <stdint.h>

/* PCI. BAR0: the registers below. BAR2: MSI-X table and pending bits. */
#define DMA_IOMMU_PCI_VENDOR_ID 0x1234u
#define DMA_IOMMU_PCI_DEVICE_ID 0x444du
#define DMA_IOMMU_PCI_CLASS_CODE 0x088000u
#define DMA_IOMMU_BAR_REGISTERS 0u
#define DMA_IOMMU_BAR_MSIX 2u
#define DMA_IOMMU_BAR_REGISTER_BYTES 4096u

/* Registers: aligned accesses of 4 bytes; 8-byte registers also 8 bytes, or two of 4, the lower one first. */
#define DMA_IOMMU_REG_ID 0x000u
#define DMA_IOMMU_REG_VERSION 0x004u
#define DMA_IOMMU_REG_CAPABILITIES 0x008u /* 8 bytes */
#define DMA_IOMMU_REG_MAX_DOMAINS 0x010u
#define DMA_IOMMU_REG_MAX_DEVICES 0x014u
#define DMA_IOMMU_REG_MAX_PAGES 0x018u
#define DMA_IOMMU_REG_MAX_ADDRESSES 0x01cu
#define DMA_IOMMU_REG_MAX_REGIONS 0x020u
#define DMA_IOMMU_REG_MAX_CONFIGURATIONS 0x024u
#define DMA_IOMMU_REG_RING_LIMITS 0x028u
#define DMA_IOMMU_REG_CONTROL 0x030u
#define DMA_IOMMU_REG_STATUS 0x034u
#define DMA_IOMMU_REG_ERROR 0x038u
#define DMA_IOMMU_REG_COMMAND_BASE 0x040u /* 8 bytes */
#define DMA_IOMMU_REG_COMMAND_SIZE 0x048u
#define DMA_IOMMU_REG_COMMAND_HEAD 0x04cu
#define DMA_IOMMU_REG_COMMAND_TAIL 0x050u
#define DMA_IOMMU_REG_COMPLETION_BASE 0x060u /* 8 bytes */
#define DMA_IOMMU_REG_COMPLETION_SIZE 0x068u
#define DMA_IOMMU_REG_COMPLETION_HEAD 0x06cu
#define DMA_IOMMU_REG_COMPLETION_TAIL 0x070u
#define DMA_IOMMU_REG_FAULT_BASE 0x080u /* 8 bytes */
#define DMA_IOMMU_REG_FAULT_SIZE 0x088u
#define DMA_IOMMU_REG_FAULT_HEAD 0x08cu
#define DMA_IOMMU_REG_FAULT_TAIL 0x090u
#define DMA_IOMMU_REG_FAULT_OVERFLOW 0x094u
#define DMA_IOMMU_REG_INTERRUPT_ENABLE 0x0a0u
#define DMA_IOMMU_REG_INTERRUPT_PENDING 0x0a4u
#define DMA_IOMMU_REG_INTERRUPT_VECTOR 0x0a8u
#define DMA_IOMMU_REG_DIRECTORY_COUNT 0x0c0u
#define DMA_IOMMU_REG_DIRECTORY_INDEX 0x0c4u
#define DMA_IOMMU_REG_DIRECTORY_ENTRY 0x0c8u
#define DMA_IOMMU_REG_DIRECTORY_MAPPINGS 0x0ccu
#define DMA_IOMMU_REG_PROBE_DEVICE 0x0e0u
#define DMA_IOMMU_REG_PROBE_PASID 0x0e4u
#define DMA_IOMMU_REG_PROBE_IOVA 0x0e8u /* 8 bytes */
#define DMA_IOMMU_REG_PROBE_COMMAND 0x0f0u
#define DMA_IOMMU_REG_PROBE_RESULT 0x0f4u
#define DMA_IOMMU_REG_PROBE_ADDRESS 0x0f8u /* 8 bytes */
#define DMA_IOMMU_REG_PROBE_DOMAIN 0x100u

/* ID: the characters "DIOM". VERSION: of this layout; a higher minor only adds. */
#define DMA_IOMMU_ID 0x4d4f4944u
#define DMA_IOMMU_VERSION_MAJOR 1u
#define DMA_IOMMU_VERSION_MINOR 0u
#define DMA_IOMMU_VERSION_MINOR_MASK 0x0000ffffu
#define DMA_IOMMU_VERSION_MAJOR_SHIFT 16

/* CAPABILITIES */
#define DMA_IOMMU_CAPABILITIES_V1 (1u << 0)
#define DMA_IOMMU_CAPABILITIES_V2 (1u << 1)
#define DMA_IOMMU_CAPABILITIES_V3 (1u << 2)
#define DMA_IOMMU_CAPABILITIES_WINDOWS_COMPAT (1u << 3)
#define DMA_IOMMU_CAPABILITIES_X64_LEVELS_4 (1u << 4)
#define DMA_IOMMU_CAPABILITIES_X64_LEVELS_5 (1u << 5)
#define DMA_IOMMU_CAPABILITIES_ARM64_4K (1u << 6)
#define DMA_IOMMU_CAPABILITIES_ARM64_16K (1u << 7)
#define DMA_IOMMU_CAPABILITIES_ARM64_64K (1u << 8)
#define DMA_IOMMU_CAPABILITIES_PROBE (1u << 9)
#define DMA_IOMMU_CAPABILITIES_PASID_BITS_SHIFT 16
#define DMA_IOMMU_CAPABILITIES_PASID_BITS_MASK 0x1fu
#define DMA_IOMMU_CAPABILITIES_ADDRESS_BITS_SHIFT 24
#define DMA_IOMMU_CAPABILITIES_ADDRESS_BITS_MASK 0x7fu

/* RING_LIMITS: log2 of entries */
#define DMA_IOMMU_RING_LIMITS_MIN_SHIFT 0
#define DMA_IOMMU_RING_LIMITS_MAX_SHIFT 8
#define DMA_IOMMU_RING_LIMITS_MASK 0x1fu
#define DMA_IOMMU_RING_SIZE_MIN 1u
#define DMA_IOMMU_RING_SIZE_MAX 16u
#define DMA_IOMMU_RING_ALIGNMENT 4096u

/* CONTROL */
#define DMA_IOMMU_CONTROL_ENABLE (1u << 0)
#define DMA_IOMMU_CONTROL_TRANSLATE (1u << 1)
#define DMA_IOMMU_CONTROL_RESET (1u << 2)

/* STATUS; the errors are cleared by writing 1. */
#define DMA_IOMMU_STATUS_READY (1u << 0)
#define DMA_IOMMU_STATUS_TRANSLATING (1u << 1)
#define DMA_IOMMU_STATUS_COMMAND_ERROR (1u << 8)
#define DMA_IOMMU_STATUS_COMPLETION_ERROR (1u << 9)
#define DMA_IOMMU_STATUS_FAULT_ERROR (1u << 10)

/* ERROR: a code for each ring */
#define DMA_IOMMU_ERROR_COMMAND_SHIFT 0
#define DMA_IOMMU_ERROR_COMPLETION_SHIFT 8
#define DMA_IOMMU_ERROR_FAULT_SHIFT 16
#define DMA_IOMMU_ERROR_MASK 0xffu
#define DMA_IOMMU_RING_ERROR_NONE 0u
#define DMA_IOMMU_RING_ERROR_ALIGNMENT 1u /* the base is not a multiple of DMA_IOMMU_RING_ALIGNMENT */
#define DMA_IOMMU_RING_ERROR_SIZE 2u      /* the size is out of range */
#define DMA_IOMMU_RING_ERROR_ADDRESS 3u   /* the ring reaches beyond 8 TiB */
#define DMA_IOMMU_RING_ERROR_INDEX 4u     /* software wrote an index that the ring does not have */
#define DMA_IOMMU_RING_ERROR_MEMORY 5u    /* no memory, or not the access needed, at an entry */

/* INTERRUPT_ENABLE and INTERRUPT_PENDING (cleared by writing 1); INTERRUPT_VECTOR has 8 bits for each, in this order. */
#define DMA_IOMMU_INTERRUPT_COMPLETION (1u << 0)
#define DMA_IOMMU_INTERRUPT_FAULT (1u << 1)
#define DMA_IOMMU_INTERRUPT_STATE_CHANGE (1u << 2)
#define DMA_IOMMU_INTERRUPT_ERROR (1u << 3)
#define DMA_IOMMU_VECTOR_COMPLETION 0u
#define DMA_IOMMU_VECTOR_FAULT 1u
#define DMA_IOMMU_VECTOR_STATE_CHANGE 2u
#define DMA_IOMMU_VECTORS 3u

/* DIRECTORY_ENTRY, of the endpoint that DIRECTORY_INDEX names */
#define DMA_IOMMU_DIRECTORY_REQUESTER_ID_MASK 0xffffu
#define DMA_IOMMU_DIRECTORY_ACPI (1u << 16)
#define DMA_IOMMU_DIRECTORY_PASID (1u << 17)
#define DMA_IOMMU_DIRECTORY_VALID (1u << 31)

/* PROBE_PASID */
#define DMA_IOMMU_PROBE_PASID_MASK 0xfffffu
#define DMA_IOMMU_PROBE_PASID_VALID (1u << 31)

/* PROBE_COMMAND: START reads as 1 until the result is there. */
#define DMA_IOMMU_PROBE_READ (1u << 0)
#define DMA_IOMMU_PROBE_WRITE (1u << 1)
#define DMA_IOMMU_PROBE_START (1u << 31)

/* PROBE_RESULT */
#define DMA_IOMMU_PROBE_TRANSLATED (1u << 0)
#define DMA_IOMMU_PROBE_STALE (1u << 1)
#define DMA_IOMMU_PROBE_SOURCE_SHIFT 4
#define DMA_IOMMU_PROBE_SOURCE_MASK 0x3u
#define DMA_IOMMU_PROBE_SOURCE_NONE 0u
#define DMA_IOMMU_PROBE_SOURCE_BYPASS 1u
#define DMA_IOMMU_PROBE_SOURCE_TLB 2u
#define DMA_IOMMU_PROBE_SOURCE_WALK 3u
#define DMA_IOMMU_PROBE_LEVEL_SHIFT 8
#define DMA_IOMMU_PROBE_LEVEL_MASK 0x7u
#define DMA_IOMMU_PROBE_PERMISSIONS_SHIFT 12
#define DMA_IOMMU_PROBE_PERMISSIONS_MASK 0x3u
#define DMA_IOMMU_PROBE_SHIFT_SHIFT 16
#define DMA_IOMMU_PROBE_SHIFT_MASK 0x3fu
#define DMA_IOMMU_PROBE_FAULT_TYPE_SHIFT 24
#define DMA_IOMMU_PROBE_FAULT_TYPE_MASK 0x7u

/* Opcodes: one for each operation of DMA_IOMMU_INTERFACE and DMA_IOMMU_INTERFACE_EX. */
#define DMA_IOMMU_OP_CREATE_DOMAIN 0x01u
#define DMA_IOMMU_OP_DELETE_DOMAIN 0x02u
#define DMA_IOMMU_OP_ATTACH_DEVICE 0x03u
#define DMA_IOMMU_OP_DETACH_DEVICE 0x04u
#define DMA_IOMMU_OP_FLUSH_DOMAIN 0x05u
#define DMA_IOMMU_OP_FLUSH_DOMAIN_BY_VA_LIST 0x06u
#define DMA_IOMMU_OP_QUERY_INPUT_MAPPINGS 0x07u
#define DMA_IOMMU_OP_MAP_LOGICAL_RANGE 0x08u
#define DMA_IOMMU_OP_UNMAP_LOGICAL_RANGE 0x09u
#define DMA_IOMMU_OP_MAP_IDENTITY_RANGE 0x0au
#define DMA_IOMMU_OP_UNMAP_IDENTITY_RANGE 0x0bu
#define DMA_IOMMU_OP_SET_DEVICE_FAULT_REPORTING 0x0cu
#define DMA_IOMMU_OP_CONFIGURE_DOMAIN 0x0du
#define DMA_IOMMU_OP_CREATE_DOMAIN_EX 0x21u
#define DMA_IOMMU_OP_ATTACH_DEVICE_EX 0x23u
#define DMA_IOMMU_OP_DETACH_DEVICE_EX 0x24u
#define DMA_IOMMU_OP_MAP_LOGICAL_RANGE_EX 0x28u
#define DMA_IOMMU_OP_MAP_IDENTITY_RANGE_EX 0x2au
#define DMA_IOMMU_OP_UNMAP_IDENTITY_RANGE_EX 0x2bu
#define DMA_IOMMU_OP_SET_DEVICE_FAULT_REPORTING_EX 0x2cu
#define DMA_IOMMU_OP_QUERY_AVAILABLE_DOMAIN_TYPES 0x2eu
#define DMA_IOMMU_OP_REGISTER_INTERFACE_STATE_CHANGE_CALLBACK 0x2fu
#define DMA_IOMMU_OP_UNREGISTER_INTERFACE_STATE_CHANGE_CALLBACK 0x30u
#define DMA_IOMMU_OP_RESERVE_LOGICAL_ADDRESS_RANGE 0x31u
#define DMA_IOMMU_OP_FREE_RESERVED_LOGICAL_ADDRESS_RANGE 0x32u
#define DMA_IOMMU_OP_MAP_RESERVED_LOGICAL_RANGE 0x33u
#define DMA_IOMMU_OP_UNMAP_RESERVED_LOGICAL_RANGE 0x34u
#define DMA_IOMMU_OP_CREATE_DEVICE 0x35u
#define DMA_IOMMU_OP_DELETE_DEVICE 0x36u
#define DMA_IOMMU_OP_CREATE_PASID_DEVICE 0x41u
#define DMA_IOMMU_OP_DELETE_PASID_DEVICE 0x42u
#define DMA_IOMMU_OP_ATTACH_PASID_DEVICE 0x43u
#define DMA_IOMMU_OP_DETACH_PASID_DEVICE 0x44u
#define DMA_IOMMU_OP_QUERY_DEVICE_INFO 0x45u

/* NTSTATUS values of completions. Windows documents STATUS_IN_USE without a number: it has that of RESOURCE_IN_USE here. */
#define DMA_IOMMU_NT_SUCCESS 0x00000000u
#define DMA_IOMMU_NT_UNSUCCESSFUL 0xc0000001u
#define DMA_IOMMU_NT_NOT_IMPLEMENTED 0xc0000002u
#define DMA_IOMMU_NT_INVALID_HANDLE 0xc0000008u
#define DMA_IOMMU_NT_INVALID_PARAMETER 0xc000000du
#define DMA_IOMMU_NT_INVALID_DEVICE_REQUEST 0xc0000010u
#define DMA_IOMMU_NT_ACCESS_DENIED 0xc0000022u
#define DMA_IOMMU_NT_BUFFER_TOO_SMALL 0xc0000023u
#define DMA_IOMMU_NT_INVALID_PARAMETER_MIX 0xc0000030u
#define DMA_IOMMU_NT_NONE_MAPPED 0xc0000073u
#define DMA_IOMMU_NT_INSUFFICIENT_RESOURCES 0xc000009au
#define DMA_IOMMU_NT_NOT_SUPPORTED 0xc00000bbu
#define DMA_IOMMU_NT_INVALID_PARAMETER_1 0xc00000efu
#define DMA_IOMMU_NT_INVALID_PARAMETER_2 0xc00000f0u
#define DMA_IOMMU_NT_INVALID_PARAMETER_3 0xc00000f1u
#define DMA_IOMMU_NT_INVALID_PARAMETER_4 0xc00000f2u
#define DMA_IOMMU_NT_INVALID_PARAMETER_5 0xc00000f3u
#define DMA_IOMMU_NT_INVALID_PARAMETER_6 0xc00000f4u
#define DMA_IOMMU_NT_INVALID_PARAMETER_7 0xc00000f5u
#define DMA_IOMMU_NT_NOT_FOUND 0xc0000225u
#define DMA_IOMMU_NT_RESOURCE_IN_USE 0xc0000708u
#define DMA_IOMMU_NT_IN_USE 0xc0000708u

/* Numbers of wdm.h */
#define DMA_IOMMU_PERMISSION_READ 1u
#define DMA_IOMMU_PERMISSION_WRITE 2u
#define DMA_IOMMU_DOMAIN_TYPE_TRANSLATE 0u
#define DMA_IOMMU_DOMAIN_TYPE_PASS_THROUGH 1u
#define DMA_IOMMU_DOMAIN_TYPE_UNMANAGED 2u
#define DMA_IOMMU_DOMAIN_TYPE_TRANSLATE_S1 3u
#define DMA_IOMMU_MEMORY_MDL 0u
#define DMA_IOMMU_MEMORY_CONTIGUOUS_RANGE 1u
#define DMA_IOMMU_MEMORY_PFN 2u
#define DMA_IOMMU_ALLOCATOR_NONE 0u
#define DMA_IOMMU_ALLOCATOR_BUDDY 1u
#define DMA_IOMMU_ARCH_ARM64 0u
#define DMA_IOMMU_ARCH_X64 1u
#define DMA_IOMMU_CONFIGURATION_ACPI 1u
#define DMA_IOMMU_CONFIGURATION_DEVICE_ID 2u
#define DMA_IOMMU_CONFIGURATION_PASID 3u
#define DMA_IOMMU_PASID_DEFAULT_ONLY 0u
#define DMA_IOMMU_PASID_TAGGED_DMA 1u
#define DMA_IOMMU_STATE_FIELD_AVAILABLE_DOMAIN_TYPES 1u
#define DMA_IOMMU_FAULT_ARCH_ARM64 1u
#define DMA_IOMMU_FAULT_ARCH_X64 2u
#define DMA_IOMMU_FAULT_TYPE_UNSUPPORTED_UPSTREAM_TRANSACTION 0u
#define DMA_IOMMU_FAULT_TYPE_ADDRESS_SIZE_FAULT 1u
#define DMA_IOMMU_FAULT_TYPE_TLB_MATCH_CONFLICT 2u
#define DMA_IOMMU_FAULT_TYPE_EXTERNAL_FAULT 3u
#define DMA_IOMMU_FAULT_TYPE_PERMISSION_FAULT 4u
#define DMA_IOMMU_FAULT_TYPE_ACCESS_FLAG_FAULT 5u
#define DMA_IOMMU_FAULT_TYPE_TRANSLATION_FAULT 6u
/* dma_iommu_fault.flags where arch is ARM64, and where it is X64 */
#define DMA_IOMMU_FAULT_ARM64_WRITE_NOT_READ (1u << 0)
#define DMA_IOMMU_FAULT_ARM64_INSTRUCTION_NOT_DATA (1u << 1)
#define DMA_IOMMU_FAULT_ARM64_PRIVILEGED (1u << 2)
#define DMA_IOMMU_FAULT_ARM64_ADDRESS_VALID (1u << 3)
#define DMA_IOMMU_FAULT_X64_ADDRESS_VALID (1u << 0)

/*
 * Command arguments. Handles (domain, device, pasid_device, token, segment) are what a completion gave; a physical device object
 * (pdo) is the requester id of an endpoint, bus << 8 | device << 3 | function. All bytes that no field names must be zero.
 */

/* Memory to map, as an MDL, a range, or a list of page frames. */
struct dma_iommu_memory {
  uint32_t type;        /* DMA_IOMMU_MEMORY_... */
  uint32_t byte_offset; /* MDL: into the first page; otherwise 0 */
  uint64_t address;     /* CONTIGUOUS_RANGE: its base; otherwise of an array of 64-bit page-frame numbers, 8-byte aligned */
  uint64_t size;        /* MDL and CONTIGUOUS_RANGE: bytes; PFN: pages. An MDL has as many frames as its bytes touch. */
};

struct dma_iommu_create_domain {
  uint32_t os_managed_page_table; /* 0: the caller's own tables */
};

/* An element of reserved_regions. */
struct dma_iommu_reserved_region {
  uint64_t base;
  uint64_t number_of_pages;
  uint32_t should_map; /* 1: mapped to itself; 0: never mapped */
  uint32_t reserved;
};

struct dma_iommu_create_domain_ex {
  uint32_t domain_type;
  uint32_t has_allocator; /* 0: LogicalAllocatorConfig is NULL */
  uint32_t allocator_type;
  uint32_t address_width; /* bits; for the buddy allocator */
  uint64_t flags;
  uint64_t reserved_regions; /* address of the first; 8-byte aligned */
  uint32_t reserved_region_count;
  uint32_t reserved;
};

struct dma_iommu_delete_domain {
  uint32_t domain;
};

struct dma_iommu_attach_device {
  uint32_t domain;
  uint32_t pdo;
  uint32_t input_mapping_id_base;
  uint32_t mapping_count;
};

struct dma_iommu_attach_device_ex {
  uint32_t domain;
  uint32_t device;
};

struct dma_iommu_detach_device {
  uint32_t domain;
  uint32_t pdo;
  uint32_t input_mapping_id;
};

struct dma_iommu_detach_device_ex {
  uint32_t device;
};

struct dma_iommu_flush_domain {
  uint32_t domain;
};

struct dma_iommu_flush_domain_by_va_list {
  uint32_t domain;
  uint32_t last_level;
  uint64_t va_list; /* address of an array of 64-bit addresses, 8-byte aligned */
  uint32_t number;
  uint32_t reserved;
};

struct dma_iommu_query_input_mappings {
  uint32_t pdo;
  uint32_t buffer_length; /* bytes, 4 for each id */
  uint64_t buffer;        /* address for 32-bit ids, 4-byte aligned; written on success only */
};

struct dma_iommu_map_logical_range {
  uint32_t domain;
  uint32_t permissions;
  struct dma_iommu_memory mdl;
  uint64_t logical_address;
};

/* Bits of `present`, of operations with optional addresses. */
#define DMA_IOMMU_PRESENT_EXPLICIT 1u
#define DMA_IOMMU_PRESENT_MINIMUM 2u
#define DMA_IOMMU_PRESENT_MAXIMUM 4u

struct dma_iommu_map_logical_range_ex {
  uint32_t domain;
  uint32_t permissions;
  struct dma_iommu_memory memory;
  uint32_t present;
  uint32_t reserved;
  uint64_t explicit_logical_address;
  uint64_t min_logical_address;
  uint64_t max_logical_address; /* included */
};

struct dma_iommu_unmap_logical_range {
  uint32_t domain;
  uint32_t reserved;
  uint64_t logical_address;
  uint64_t number_of_pages;
};

struct dma_iommu_map_identity_range {
  uint32_t domain;
  uint32_t permissions;
  struct dma_iommu_memory mdl;
};

struct dma_iommu_map_identity_range_ex {
  uint32_t domain;
  uint32_t permissions;
  struct dma_iommu_memory memory;
};

struct dma_iommu_unmap_identity_range {
  uint32_t domain;
  uint32_t reserved;
  struct dma_iommu_memory mdl;
};

struct dma_iommu_unmap_identity_range_ex {
  uint32_t domain;
  uint32_t reserved;
  struct dma_iommu_memory memory;
};

struct dma_iommu_set_device_fault_reporting {
  uint32_t pdo;
  uint32_t input_mapping_id_base;
  uint32_t enable;
  uint32_t has_config; /* 0: FaultConfig is NULL */
  uint64_t context;    /* comes back in every fault of this device */
};

struct dma_iommu_set_device_fault_reporting_ex {
  uint32_t device;
  uint32_t input_mapping_id_base;
  uint32_t enable;
  uint32_t has_config;
  uint64_t context;
};

struct dma_iommu_configure_domain_arm64 {
  uint64_t ttbr0;
  uint64_t ttbr1;
  uint32_t mair0;
  uint32_t mair1;
  uint8_t input_size0; /* bits; 0: nothing there is translated */
  uint8_t input_size1;
  uint8_t coherent_table_walks;
  uint8_t translation_enabled; /* 0: stage 1 is bypassed */
  uint32_t granule;            /* KiB: 4 (also where 0), 16 or 64 */
};

struct dma_iommu_configure_domain_x64 {
  uint64_t first_level_page_table_root;
  uint32_t translation_enabled;
  uint32_t levels; /* 4 (also where 0) or 5 */
};

struct dma_iommu_configure_domain {
  uint32_t domain;
  uint32_t arch; /* DMA_IOMMU_ARCH_... */
  union {
    struct dma_iommu_configure_domain_arm64 arm64;
    struct dma_iommu_configure_domain_x64 x64;
  } u;
};

struct dma_iommu_query_available_domain_types {
  uint32_t device;
};

struct dma_iommu_register_interface_state_change_callback {
  uint32_t device;
  uint32_t state_fields;
  uint64_t callback; /* any number; the same one unregisters */
  uint64_t context;  /* comes back in every state change */
};

struct dma_iommu_unregister_interface_state_change_callback {
  uint32_t device;
  uint32_t reserved;
  uint64_t callback;
};

struct dma_iommu_reserve_logical_address_range {
  uint32_t domain;
  uint32_t present; /* DMA_IOMMU_PRESENT_... */
  uint64_t size;    /* bytes */
  uint64_t explicit_logical_address;
  uint64_t min_logical_address;
  uint64_t max_logical_address;
};

struct dma_iommu_free_reserved_logical_address_range {
  uint32_t token;
};

struct dma_iommu_map_reserved_logical_range {
  uint32_t token;
  uint32_t permissions;
  uint64_t offset; /* bytes from the token's base */
  struct dma_iommu_memory memory;
};

struct dma_iommu_unmap_reserved_logical_range {
  uint32_t segment;
};

/* An element of configurations. */
struct dma_iommu_device_configuration {
  uint32_t type; /* DMA_IOMMU_CONFIGURATION_... */
  uint32_t reserved;
  union {
    struct {
      uint32_t input_mapping_base;
      uint32_t mappings_count;
    } acpi;
    uint64_t device_id;
    struct {
      uint32_t type; /* DMA_IOMMU_PASID_... */
      uint32_t suppress_faults;
    } pasid;
  } u;
};

struct dma_iommu_create_device {
  uint32_t pdo;
  uint32_t configuration_count; /* 0: DeviceConfig is NULL */
  uint64_t configurations;      /* address of the first; 8-byte aligned */
};

struct dma_iommu_delete_device {
  uint32_t device;
};

struct dma_iommu_create_pasid_device {
  uint32_t device;
};

struct dma_iommu_delete_pasid_device {
  uint32_t pasid_device;
};

struct dma_iommu_attach_pasid_device {
  uint32_t domain;
  uint32_t pasid_device;
};

struct dma_iommu_detach_pasid_device {
  uint32_t pasid_device;
};

struct dma_iommu_query_device_info {
  uint32_t device;
  uint32_t size; /* bytes of the caller's buffer */
};

/* dma_iommu_command.flags */
#define DMA_IOMMU_COMMAND_NO_INTERRUPT 1u /* its completion does not set INTERRUPT_PENDING */

#define DMA_IOMMU_COMMAND_BYTES 128u
#define DMA_IOMMU_COMPLETION_BYTES 64u
#define DMA_IOMMU_FAULT_BYTES 64u

/* An entry of the command ring. */
struct dma_iommu_command {
  uint16_t opcode;
  uint16_t flags;
  uint32_t reserved;
  uint64_t cookie; /* comes back in the completion */
  union {
    uint8_t bytes[112];
    struct dma_iommu_create_domain create_domain;
    struct dma_iommu_create_domain_ex create_domain_ex;
    struct dma_iommu_delete_domain delete_domain;
    struct dma_iommu_attach_device attach_device;
    struct dma_iommu_attach_device_ex attach_device_ex;
    struct dma_iommu_detach_device detach_device;
    struct dma_iommu_detach_device_ex detach_device_ex;
    struct dma_iommu_flush_domain flush_domain;
    struct dma_iommu_flush_domain_by_va_list flush_domain_by_va_list;
    struct dma_iommu_query_input_mappings query_input_mappings;
    struct dma_iommu_map_logical_range map_logical_range;
    struct dma_iommu_map_logical_range_ex map_logical_range_ex;
    struct dma_iommu_unmap_logical_range unmap_logical_range;
    struct dma_iommu_map_identity_range map_identity_range;
    struct dma_iommu_map_identity_range_ex map_identity_range_ex;
    struct dma_iommu_unmap_identity_range unmap_identity_range;
    struct dma_iommu_unmap_identity_range_ex unmap_identity_range_ex;
    struct dma_iommu_set_device_fault_reporting set_device_fault_reporting;
    struct dma_iommu_set_device_fault_reporting_ex set_device_fault_reporting_ex;
    struct dma_iommu_configure_domain configure_domain;
    struct dma_iommu_query_available_domain_types query_available_domain_types;
    struct dma_iommu_register_interface_state_change_callback register_interface_state_change_callback;
    struct dma_iommu_unregister_interface_state_change_callback unregister_interface_state_change_callback;
    struct dma_iommu_reserve_logical_address_range reserve_logical_address_range;
    struct dma_iommu_free_reserved_logical_address_range free_reserved_logical_address_range;
    struct dma_iommu_map_reserved_logical_range map_reserved_logical_range;
    struct dma_iommu_unmap_reserved_logical_range unmap_reserved_logical_range;
    struct dma_iommu_create_device create_device;
    struct dma_iommu_delete_device delete_device;
    struct dma_iommu_create_pasid_device create_pasid_device;
    struct dma_iommu_delete_pasid_device delete_pasid_device;
    struct dma_iommu_attach_pasid_device attach_pasid_device;
    struct dma_iommu_detach_pasid_device detach_pasid_device;
    struct dma_iommu_query_device_info query_device_info;
  } args;
};

/* Outputs, by operation; zero where the operation failed, unless said otherwise. */

struct dma_iommu_create_domain_result { /* also of CREATE_DOMAIN_EX */
  uint32_t domain;
};

struct dma_iommu_query_input_mappings_result {
  uint32_t return_length; /* bytes; also with BUFFER_TOO_SMALL */
};

struct dma_iommu_map_logical_range_ex_result {
  uint64_t logical_address;
};

struct dma_iommu_query_available_domain_types_result {
  uint32_t available_domains; /* bits 1 << DMA_IOMMU_DOMAIN_TYPE_...; whatever the status */
};

struct dma_iommu_reserve_logical_address_range_result {
  uint32_t token;
  uint32_t reserved;
  uint64_t logical_address_base;
  uint64_t size;
};

struct dma_iommu_map_reserved_logical_range_result {
  uint32_t segment;
  uint32_t reserved;
  uint64_t offset;
  uint64_t size;
};

struct dma_iommu_create_device_result {
  uint32_t device;
};

struct dma_iommu_create_pasid_device_result {
  uint32_t pasid_device;
  uint32_t asid; /* the PASID */
};

struct dma_iommu_query_device_info_result {
  uint32_t bytes_written; /* whatever the status */
  uint8_t default_pasid_enabled;
  uint8_t pasid_tagged_dma_enabled;
  uint8_t pasid_faults_suppressed;
  uint8_t reserved;
};

/* Not an answer: kind is STATE_CHANGE, cookie is the context. */
struct dma_iommu_state_change {
  uint64_t callback;
  uint32_t device;
  uint32_t present_fields;
  uint32_t available_domain_types;
  uint32_t reserved;
};

/* dma_iommu_completion.kind */
#define DMA_IOMMU_COMPLETION_COMMAND 0u
#define DMA_IOMMU_COMPLETION_STATE_CHANGE 1u

/* An entry of the completion ring. phase is 1 on the first lap after ENABLE, then 0, then 1, ...; it is stored last. */
struct dma_iommu_completion {
  uint8_t phase;
  uint8_t kind;
  uint16_t opcode;
  uint32_t status; /* an NTSTATUS */
  uint64_t cookie;
  union {
    uint8_t bytes[48];
    struct dma_iommu_create_domain_result create_domain;
    struct dma_iommu_create_domain_result create_domain_ex;
    struct dma_iommu_query_input_mappings_result query_input_mappings;
    struct dma_iommu_map_logical_range_ex_result map_logical_range_ex;
    struct dma_iommu_query_available_domain_types_result query_available_domain_types;
    struct dma_iommu_reserve_logical_address_range_result reserve_logical_address_range;
    struct dma_iommu_map_reserved_logical_range_result map_reserved_logical_range;
    struct dma_iommu_create_device_result create_device;
    struct dma_iommu_create_pasid_device_result create_pasid_device;
    struct dma_iommu_query_device_info_result query_device_info;
    struct dma_iommu_state_change state_change;
  } result;
};

/* An entry of the fault ring. phase as in completions. */
struct dma_iommu_fault {
  uint8_t phase;
  uint8_t arch; /* DMA_IOMMU_FAULT_ARCH_... */
  uint8_t is_stage1;
  uint8_t access; /* DMA_IOMMU_PERMISSION_... */
  uint32_t requester_id;
  uint64_t context;
  uint64_t fault_address;
  uint64_t iommu_base_address;
  uint32_t domain; /* 0: the device is attached to none */
  uint32_t type;   /* DMA_IOMMU_FAULT_TYPE_... */
  uint32_t flags;
  int32_t pasid;             /* -1: the request carried none */
  uint32_t pdo;              /* ARM64 */
  uint32_t input_mapping_id; /* ARM64 */
  uint32_t pci_segment;      /* X64 */
  uint32_t sequence;         /* counts the faults since ENABLE, lost ones included: a gap shows a loss */
};

#ifndef __cplusplus
_Static_assert(sizeof(struct dma_iommu_memory) == 24, "dma_iommu_memory");
_Static_assert(sizeof(struct dma_iommu_reserved_region) == 24, "dma_iommu_reserved_region");
_Static_assert(sizeof(struct dma_iommu_device_configuration) == 16, "dma_iommu_device_configuration");
_Static_assert(sizeof(struct dma_iommu_configure_domain) == 40, "dma_iommu_configure_domain");
_Static_assert(sizeof(struct dma_iommu_command) == DMA_IOMMU_COMMAND_BYTES, "dma_iommu_command");
_Static_assert(sizeof(struct dma_iommu_completion) == DMA_IOMMU_COMPLETION_BYTES, "dma_iommu_completion");
_Static_assert(sizeof(struct dma_iommu_fault) == DMA_IOMMU_FAULT_BYTES, "dma_iommu_fault");
#endif

#endif
