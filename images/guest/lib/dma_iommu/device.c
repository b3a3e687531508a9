#include "dma_iommu/operations.h"

#include <string.h>

NTSTATUS IommuDomainAttachDevice(PIOMMU_DMA_DOMAIN Domain, PDEVICE_OBJECT PhysicalDeviceObject,
				 ULONG InputMappingIdBase, ULONG MappingCount)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_ATTACH_DEVICE,
		.args.attach_device = {
			.domain = number_of(Domain),
			.pdo = pdo_of(PhysicalDeviceObject),
			.input_mapping_id_base = InputMappingIdBase,
			.mapping_count = MappingCount,
		},
	};

	return run_plain(&command);
}

NTSTATUS IommuDomainDetachDevice(PIOMMU_DMA_DOMAIN Domain, PDEVICE_OBJECT PhysicalDeviceObject, ULONG InputMappingId)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_DETACH_DEVICE,
		.args.detach_device = {
			.domain = number_of(Domain),
			.pdo = pdo_of(PhysicalDeviceObject),
			.input_mapping_id = InputMappingId,
		},
	};

	return run_plain(&command);
}

NTSTATUS IommuDomainAttachDeviceEx(PIOMMU_DMA_DOMAIN Domain, PIOMMU_DMA_DEVICE DmaDevice)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_ATTACH_DEVICE_EX,
		.args.attach_device_ex = { .domain = number_of(Domain), .device = number_of(DmaDevice) },
	};

	return run_plain(&command);
}

NTSTATUS IommuDomainDetachDeviceEx(PIOMMU_DMA_DEVICE DmaDevice)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_DETACH_DEVICE_EX,
		.args.detach_device_ex.device = number_of(DmaDevice),
	};

	return run_plain(&command);
}

NTSTATUS IommuQueryInputMappings(PDEVICE_OBJECT PhysicalDeviceObject, PINPUT_MAPPING_ELEMENT Buffer,
				 ULONG BufferLength, PULONG ReturnLength)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_QUERY_INPUT_MAPPINGS,
		.args.query_input_mappings = {
			.pdo = pdo_of(PhysicalDeviceObject),
			.buffer_length = BufferLength,
		},
	};
	struct dma_iommu_completion completion;
	void *buffer = dma_iommu_scratch(BufferLength, &command.args.query_input_mappings.buffer);
	uint32_t length;
	NTSTATUS status;

	if (!buffer)
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	/* What the function leaves alone stays as the caller had it. */
	memcpy(buffer, Buffer, BufferLength);
	status = dma_iommu_run(&command, &completion);
	length = completion.result.query_input_mappings.return_length;
	if (status == DMA_IOMMU_STATUS_NO_ANSWER)
		return status;
	memcpy(Buffer, buffer, BufferLength);
	if (ReturnLength && (NT_SUCCESS(status) || status == DMA_IOMMU_NT_BUFFER_TOO_SMALL))
		*ReturnLength = length;
	return status;
}

static bool describe_configurations(const IOMMU_DEVICE_CREATION_CONFIGURATION *first,
				    struct dma_iommu_create_device *args)
{
	const LIST_ENTRY *end = NULL;
	struct dma_iommu_device_configuration *list;
	uint32_t count = 0;

	for (const LIST_ENTRY *at = first ? &first->NextConfiguration : end; at != end; at = at->Flink)
		count++;
	if (count == 0)
		return true;
	list = dma_iommu_scratch(count * sizeof(*list), &args->configurations);
	if (!list)
		return false;
	args->configuration_count = count;
	for (const LIST_ENTRY *at = &first->NextConfiguration; at != end; at = at->Flink, list++) {
		/* The entry is the first member. */
		const IOMMU_DEVICE_CREATION_CONFIGURATION *one = (const void *)at;

		list->type = one->ConfigType;
		if (one->ConfigType == IommuDeviceCreationConfigTypeAcpi) {
			list->u.acpi.input_mapping_base = one->Acpi.InputMappingBase;
			list->u.acpi.mappings_count = one->Acpi.MappingsCount;
		} else if (one->ConfigType == IommuDeviceCreationConfigTypePasid) {
			list->u.pasid.type = one->Pasid.ConfigType;
			list->u.pasid.suppress_faults = one->Pasid.SuppressPasidFaults;
		} else {
			list->u.device_id = (uintptr_t)one->DeviceId;
		}
	}
	return true;
}

NTSTATUS IommuDeviceCreate(PDEVICE_OBJECT DeviceObject, PIOMMU_DEVICE_CREATION_CONFIGURATION DeviceConfig,
			   PIOMMU_DMA_DEVICE *DmaDeviceOut)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_CREATE_DEVICE,
		.args.create_device.pdo = pdo_of(DeviceObject),
	};
	struct dma_iommu_completion completion;
	NTSTATUS status;

	if (!describe_configurations(DeviceConfig, &command.args.create_device))
		return DMA_IOMMU_NT_INSUFFICIENT_RESOURCES;
	status = dma_iommu_run(&command, &completion);
	if (NT_SUCCESS(status))
		*DmaDeviceOut = handle_of(completion.result.create_device.device);
	return status;
}

NTSTATUS IommuDeviceDelete(PIOMMU_DMA_DEVICE DmaDevice)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_DELETE_DEVICE,
		.args.delete_device.device = number_of(DmaDevice),
	};

	return run_plain(&command);
}

void IommuDeviceQueryDomainTypes(PIOMMU_DMA_DEVICE DmaDevice, PULONG AvailableDomains)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_QUERY_AVAILABLE_DOMAIN_TYPES,
		.args.query_available_domain_types.device = number_of(DmaDevice),
	};
	struct dma_iommu_completion completion;

	*AvailableDomains = 0;
	if (dma_iommu_run(&command, &completion) != DMA_IOMMU_STATUS_NO_ANSWER)
		*AvailableDomains = completion.result.query_available_domain_types.available_domains;
}

NTSTATUS IommuDeviceQueryInformation(PIOMMU_DMA_DEVICE DmaDevice, ULONG Size, PULONG BytesWritten,
				     PIOMMU_DMA_DEVICE_INFORMATION Buffer)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_QUERY_DEVICE_INFO,
		.args.query_device_info = { .device = number_of(DmaDevice), .size = Size },
	};
	const struct dma_iommu_query_device_info_result *result;
	struct dma_iommu_completion completion;
	NTSTATUS status = dma_iommu_run(&command, &completion);

	if (status == DMA_IOMMU_STATUS_NO_ANSWER)
		return status;
	result = &completion.result.query_device_info;
	*BytesWritten = result->bytes_written;
	if (NT_SUCCESS(status)) {
		Buffer->DefaultPasidEnabled = result->default_pasid_enabled;
		Buffer->PasidTaggedDmaEnabled = result->pasid_tagged_dma_enabled;
		Buffer->PasidFaultsSuppressed = result->pasid_faults_suppressed;
	}
	return status;
}

NTSTATUS IommuPasidDeviceCreate(PIOMMU_DMA_DEVICE DmaDevice, PIOMMU_DMA_PASID_DEVICE *PasidDeviceOut, PULONG AsidOut)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_CREATE_PASID_DEVICE,
		.args.create_pasid_device.device = number_of(DmaDevice),
	};
	struct dma_iommu_completion completion;
	NTSTATUS status = dma_iommu_run(&command, &completion);

	if (NT_SUCCESS(status)) {
		*PasidDeviceOut = handle_of(completion.result.create_pasid_device.pasid_device);
		*AsidOut = completion.result.create_pasid_device.asid;
	}
	return status;
}

NTSTATUS IommuPasidDeviceDelete(PIOMMU_DMA_PASID_DEVICE PasidDevice)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_DELETE_PASID_DEVICE,
		.args.delete_pasid_device.pasid_device = number_of(PasidDevice),
	};

	return run_plain(&command);
}

NTSTATUS IommuDomainAttachPasidDevice(PIOMMU_DMA_DOMAIN Domain, PIOMMU_DMA_PASID_DEVICE PasidDevice)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_ATTACH_PASID_DEVICE,
		.args.attach_pasid_device = { .domain = number_of(Domain), .pasid_device = number_of(PasidDevice) },
	};

	return run_plain(&command);
}

NTSTATUS IommuDomainDetachPasidDevice(PIOMMU_DMA_PASID_DEVICE PasidDevice)
{
	struct dma_iommu_command command = {
		.opcode = DMA_IOMMU_OP_DETACH_PASID_DEVICE,
		.args.detach_pasid_device.pasid_device = number_of(PasidDevice),
	};

	return run_plain(&command);
}
