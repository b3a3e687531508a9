/* Every case, by the file that it is in. */
#ifndef DMA_IOMMU_DEMO_CASES_H
#define DMA_IOMMU_DEMO_CASES_H

#include "dma_iommu_cases/fixture.h"

/* cases_domains.c */
bool case_create_domain(struct fixture *fixture);
bool case_delete_domain(struct fixture *fixture);
bool case_attach_device(struct fixture *fixture);
bool case_detach_device(struct fixture *fixture);

/* cases_domains_ex.c */
bool case_create_domain_ex(struct fixture *fixture);
bool case_attach_device_ex(struct fixture *fixture);
bool case_detach_device_ex(struct fixture *fixture);
bool case_create_device(struct fixture *fixture);
bool case_delete_device(struct fixture *fixture);

/* cases_map.c */
bool case_map_logical_range(struct fixture *fixture);
bool case_unmap_logical_range(struct fixture *fixture);
bool case_map_identity_range(struct fixture *fixture);
bool case_unmap_identity_range(struct fixture *fixture);

/* cases_map_ex.c */
bool case_map_logical_range_ex(struct fixture *fixture);
bool case_map_identity_range_ex(struct fixture *fixture);
bool case_unmap_identity_range_ex(struct fixture *fixture);
bool case_buddy_allocator(struct fixture *fixture);

/* cases_flush.c */
bool case_flush_domain(struct fixture *fixture);
bool case_flush_domain_by_va_list(struct fixture *fixture);

/* cases_tables.c */
bool case_configure_domain(struct fixture *fixture);
bool case_tables_x64(struct fixture *fixture);
bool case_tables_x64_5_levels(struct fixture *fixture);
bool case_tables_arm64_4k(struct fixture *fixture);
bool case_tables_arm64_16k(struct fixture *fixture);
bool case_tables_arm64_64k(struct fixture *fixture);
bool case_tables_arm64_ttbr1(struct fixture *fixture);

/* cases_report.c */
bool case_set_device_fault_reporting(struct fixture *fixture);
bool case_set_device_fault_reporting_ex(struct fixture *fixture);
bool case_query_input_mappings(struct fixture *fixture);
bool case_query_available_domain_types(struct fixture *fixture);
bool case_register_callback(struct fixture *fixture);
bool case_unregister_callback(struct fixture *fixture);

/* cases_reserve.c */
bool case_reserve(struct fixture *fixture);
bool case_free_reserved(struct fixture *fixture);
bool case_map_reserved(struct fixture *fixture);
bool case_unmap_reserved(struct fixture *fixture);

/* cases_pasid.c */
bool case_create_pasid_device(struct fixture *fixture);
bool case_delete_pasid_device(struct fixture *fixture);
bool case_attach_pasid_device(struct fixture *fixture);
bool case_detach_pasid_device(struct fixture *fixture);
bool case_query_device_info(struct fixture *fixture);

/* cases_function.c */
bool case_get_interface(struct fixture *fixture);
bool case_two_domains(struct fixture *fixture);
bool case_bad_commands(struct fixture *fixture);
bool case_bad_index(struct fixture *fixture);
bool case_interrupt_pending(struct fixture *fixture);

#endif
