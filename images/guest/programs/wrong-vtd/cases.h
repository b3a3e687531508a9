/* Every case, by the file that it is in. Each is named after the mistake that it makes; what follows the name tells ways apart. */
#ifndef WRONG_VTD_CASES_H
#define WRONG_VTD_CASES_H

#include "fixture.h"

/* cases_cache.c */
bool case_correct(struct fixture *fixture);
bool case_stale_iotlb(struct fixture *fixture);
bool case_stale_iotlb_permissions(struct fixture *fixture);
bool case_stale_iotlb_late(struct fixture *fixture);
bool case_stale_context(struct fixture *fixture);
bool case_stale_paging_structure(struct fixture *fixture);
bool case_missing_map_invalidation(struct fixture *fixture);
bool case_dma_before_flush(struct fixture *fixture);

/* cases_access.c */
bool case_use_after_unmap(struct fixture *fixture);
bool case_wrong_direction(struct fixture *fixture);
bool case_wrong_direction_read(struct fixture *fixture);
bool case_out_of_bounds(struct fixture *fixture);
bool case_out_of_bounds_beside(struct fixture *fixture);
bool case_never_mapped(struct fixture *fixture);
bool case_never_mapped_physical(struct fixture *fixture);
bool case_reserved_range(struct fixture *fixture);
bool case_reserved_range_mapped(struct fixture *fixture);
bool case_address_too_wide(struct fixture *fixture);
bool case_address_too_wide_unit(struct fixture *fixture);
bool case_dma_to_no_memory(struct fixture *fixture);

/* cases_device.c */
bool case_wrong_requester_id(struct fixture *fixture);
bool case_bus_master_off(struct fixture *fixture);
bool case_dma_while_detached(struct fixture *fixture);
bool case_mapping_leak(struct fixture *fixture);
bool case_pasid_misuse(struct fixture *fixture);
bool case_register_spin(struct fixture *fixture);
bool case_unknown_register(struct fixture *fixture);

/* cases_tables.c */
bool case_malformed_table(struct fixture *fixture);
bool case_malformed_table_outside(struct fixture *fixture);
bool case_malformed_table_device(struct fixture *fixture);
bool case_malformed_table_loop(struct fixture *fixture);
bool case_malformed_table_context(struct fixture *fixture);

/* cases_unit.c */
bool case_invalidation_queue_misuse(struct fixture *fixture);
bool case_invalidation_queue_misuse_tail(struct fixture *fixture);
bool case_descriptor_race(struct fixture *fixture);
bool case_interrupt_misuse(struct fixture *fixture);

#endif
