#include "dma_iommu/operations.h"

#include "dma_iommu/callbacks.h"

/*
 * The number by which faults of the device come back. It stays the same while the device is there, so that a fault that is still
 * on its way finds the handler it was meant for, or the one after it.
 */
static uint64_t fault_number(const void *device, PDEVICE_FAULT_CONFIGURATION config)
{
	uint64_t number = callback_find(CALLBACK_FAULT, device, NULL);
	struct callback *callback = callback_get(CALLBACK_FAULT, number);

	if (!callback)
		return callback_add(CALLBACK_FAULT, device, config->FaultHandler, config->FaultContext);
	callback->function = config->FaultHandler;
	callback->context = config->FaultContext;
	return number;
}

NTSTATUS IommuSetDeviceFaultReporting(PDEVICE_OBJECT PhysicalDeviceObject, ULONG InputMappingIdBase, BOOLEAN Enable,
				      PDEVICE_FAULT_CONFIGURATION FaultConfig)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_SET_DEVICE_FAULT_REPORTING,
		.args.set_device_fault_reporting = {
			.pdo = pdo_of(PhysicalDeviceObject),
			.input_mapping_id_base = InputMappingIdBase,
			.enable = Enable,
			.has_config = FaultConfig != NULL,
			.context = FaultConfig ? fault_number(PhysicalDeviceObject, FaultConfig) : 0,
		},
	};

	return run_plain(&command);
}

NTSTATUS IommuSetDeviceFaultReportingEx(PIOMMU_DMA_DEVICE DmaDevice, ULONG InputMappingIdBase, BOOLEAN Enable,
					PDEVICE_FAULT_CONFIGURATION FaultConfig)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_SET_DEVICE_FAULT_REPORTING_EX,
		.args.set_device_fault_reporting_ex = {
			.device = number_of(DmaDevice),
			.input_mapping_id_base = InputMappingIdBase,
			.enable = Enable,
			.has_config = FaultConfig != NULL,
			.context = FaultConfig ? fault_number(DmaDevice, FaultConfig) : 0,
		},
	};

	return run_plain(&command);
}

NTSTATUS IommuRegisterInterfaceStateChangeCallback(PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK StateChangeCallback,
						   PVOID Context, PIOMMU_DMA_DEVICE DmaDevice,
						   PIOMMU_INTERFACE_STATE_CHANGE_FIELDS StateFields)
{
	uint64_t number = callback_add(CALLBACK_STATE_CHANGE, DmaDevice, StateChangeCallback, Context);
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_REGISTER_INTERFACE_STATE_CHANGE_CALLBACK,
		.args.register_interface_state_change_callback = {
			.device = number_of(DmaDevice),
			.state_fields = StateFields->AsULONG,
			.callback = number,
			.context = number,
		},
	};
	NTSTATUS status;

	if (number == 0)
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	status = run_plain(&command);
	if (!NT_SUCCESS(status))
		callback_remove(number);
	return status;
}

NTSTATUS
IommuUnregisterInterfaceStateChangeCallback(PIOMMU_INTERFACE_STATE_CHANGE_CALLBACK StateChangeCallback,
					    PIOMMU_DMA_DEVICE DmaDevice)
{
	uint64_t number = callback_find(CALLBACK_STATE_CHANGE, DmaDevice, StateChangeCallback);
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_UNREGISTER_INTERFACE_STATE_CHANGE_CALLBACK,
		.args.unregister_interface_state_change_callback = {
			.device = number_of(DmaDevice),
			/* 0 stands for no callback of ours: the function refuses it. */
			.callback = number,
		},
	};
	NTSTATUS status = run_plain(&command);

	if (NT_SUCCESS(status))
		callback_remove(number);
	return status;
}
