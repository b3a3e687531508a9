/* The registers of a VT-d unit that a driver of legacy mode needs (Intel VT-d specification, 11.4), and what is in them. */
#ifndef LIB_VTD_REGISTERS_H
#define LIB_VTD_REGISTERS_H

#define VTD_REGISTER_BYTES 4096

#define VTD_REG_VERSION 0x00
#define VTD_REG_CAPABILITY 0x08
#define VTD_REG_EXTENDED_CAPABILITY 0x10
#define VTD_REG_GLOBAL_COMMAND 0x18
#define VTD_REG_GLOBAL_STATUS 0x1c
#define VTD_REG_ROOT_TABLE 0x20
#define VTD_REG_FAULT_STATUS 0x34
#define VTD_REG_FAULT_CONTROL 0x38
#define VTD_REG_QUEUE_HEAD 0x80
#define VTD_REG_QUEUE_TAIL 0x88
#define VTD_REG_QUEUE_ADDRESS 0x90
#define VTD_REG_COMPLETION_STATUS 0x9c
#define VTD_REG_COMPLETION_CONTROL 0xa0
#define VTD_REG_COMPLETION_DATA 0xa4
#define VTD_REG_COMPLETION_ADDRESS 0xa8
#define VTD_REG_COMPLETION_UPPER_ADDRESS 0xac

/* Capability register. */
#define VTD_CAP_CACHING_MODE (1ull << 7)
#define VTD_CAP_3_LEVELS (1ull << 9)
#define VTD_CAP_4_LEVELS (1ull << 10)
#define VTD_CAP_LARGE_PAGES (1ull << 34)
#define VTD_CAP_PAGE_SELECTIVE (1ull << 39)
#define VTD_CAP_FAULT_OFFSET(capability) (((capability) >> 24 & 0x3ff) * 16)
#define VTD_CAP_FAULT_RECORDS(capability) (((capability) >> 40 & 0xff) + 1)
#define VTD_CAP_MAX_ADDRESS_MASK(capability) ((capability) >> 48 & 0x3f)

/* Extended capability register. */
#define VTD_ECAP_QUEUE (1ull << 1)

/* Global command and status: the same bits. Root-table bit: one-shot in the command, sticky in the status. */
#define VTD_GLOBAL_TRANSLATION (1u << 31)
#define VTD_GLOBAL_ROOT_TABLE (1u << 30)
#define VTD_GLOBAL_QUEUE (1u << 26)
/* Status bits that must not be written back: those of commands that act once (11.4.4.1). */
#define VTD_GLOBAL_ONE_SHOT 0x69000000u

#define VTD_FAULT_STATUS_OVERFLOW (1u << 0)
#define VTD_FAULT_STATUS_QUEUE_ERROR (1u << 4)

#define VTD_EVENT_MASKED (1u << 31)
#define VTD_COMPLETION_DONE 1u

/* A fault record: 16 bytes. */
#define VTD_FAULT_RECORD_BYTES 16
#define VTD_FAULT_HIGH_VALID (1ull << 63)
#define VTD_FAULT_HIGH_READ (1ull << 62)
#define VTD_FAULT_HIGH_REASON(high) ((uint8_t)((high) >> 32))
#define VTD_FAULT_HIGH_SOURCE(high) ((uint16_t)(high))

/* Fault reasons (7.1.3). */
#define VTD_FAULT_ROOT_NOT_PRESENT 0x1
#define VTD_FAULT_CONTEXT_NOT_PRESENT 0x2
#define VTD_FAULT_CONTEXT_INVALID 0x3
#define VTD_FAULT_BEYOND_WIDTH 0x4
#define VTD_FAULT_WRITE 0x5
#define VTD_FAULT_READ 0x6
#define VTD_FAULT_TABLE_ACCESS 0x7
#define VTD_FAULT_CONTEXT_RESERVED 0xb
#define VTD_FAULT_TABLE_RESERVED 0xc
#define VTD_FAULT_INTERRUPT_RANGE 0xe

/* Invalidation descriptors (6.5.2): 16 bytes. */
#define VTD_DESCRIPTOR_CONTEXT 1ull
#define VTD_DESCRIPTOR_IOTLB 2ull
#define VTD_DESCRIPTOR_WAIT 5ull
/* Granularity, bits 5:4 of the first two. */
#define VTD_GRANULARITY_GLOBAL (1ull << 4)
#define VTD_GRANULARITY_DOMAIN (2ull << 4)
#define VTD_GRANULARITY_SELECTIVE (3ull << 4)
#define VTD_IOTLB_DRAIN_WRITES (1ull << 6)
#define VTD_IOTLB_DRAIN_READS (1ull << 7)
#define VTD_IOTLB_LEAF_ONLY (1ull << 6)
#define VTD_WAIT_INTERRUPT (1ull << 4)
#define VTD_WAIT_STATUS_WRITE (1ull << 5)
#define VTD_DESCRIPTOR_DOMAIN(id) ((uint64_t)(id) << 16)
#define VTD_CONTEXT_SOURCE(requester_id) ((uint64_t)(requester_id) << 32)

/* Root, context and page-table entries (9.1, 9.3, 9.8). */
#define VTD_ENTRY_PRESENT 1ull
#define VTD_READ 1ull
#define VTD_WRITE 2ull
#define VTD_READ_WRITE (VTD_READ | VTD_WRITE)
#define VTD_LARGE_PAGE (1ull << 7)
#define VTD_ENTRY_ADDRESS 0x000ffffffffff000ull

#endif
