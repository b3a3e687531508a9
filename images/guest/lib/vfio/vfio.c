#include "vfio/vfio.h"

#include "report/report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* The last component of what a link under the function's sysfs folder points to; false when there is no such link. */
static bool link_target(const char *address, const char *link, char *name, size_t size)
{
	char path[128], target[PATH_MAX];
	ssize_t length;
	const char *slash;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, link);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	slash = strrchr(target, '/');
	return snprintf(name, size, "%s", slash ? slash + 1 : target) < (int)size;
}

static bool open_container(struct vfio_function *function)
{
	function->container_fd = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (function->container_fd < 0)
		return failed_errno("cannot open /dev/vfio/vfio (is the module vfio loaded?)");
	if (ioctl(function->container_fd, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		return failed("the kernel's VFIO has another API version than %d", VFIO_API_VERSION);
	if (!ioctl(function->container_fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU))
		return failed("VFIO has no type 1 back end (is the module vfio_iommu_type1 loaded?)");
	return true;
}

static bool open_group(struct vfio_function *function)
{
	char driver[64], group[32], path[64];
	struct vfio_group_status status = { .argsz = sizeof(status) };

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", function->pci.address);
	if (access(path, F_OK) < 0)
		return failed("there is no PCI function %s", function->pci.address);
	if (!link_target(function->pci.address, "iommu_group", group, sizeof(group)))
		return failed("%s is in no IOMMU group: no IOMMU is active for it in this guest", function->pci.address);
	if (!link_target(function->pci.address, "driver", driver, sizeof(driver)))
		return failed("%s has no driver: expected vfio-pci", function->pci.address);
	if (strcmp(driver, "vfio-pci") != 0)
		return failed("%s belongs to the driver %s: expected vfio-pci", function->pci.address, driver);

	snprintf(path, sizeof(path), "/dev/vfio/%s", group);
	function->group_fd = open(path, O_RDWR | O_CLOEXEC);
	if (function->group_fd < 0 && errno == EBUSY)
		return failed("IOMMU group %s of %s is in use already (by another function of it, or another program)",
			      group, function->pci.address);
	if (function->group_fd < 0)
		return failed_errno("cannot open %s", path);
	if (ioctl(function->group_fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return failed_errno("VFIO_GROUP_GET_STATUS of group %s", group);
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return failed("IOMMU group %s is not viable: another driver holds a function of it", group);
	if (ioctl(function->group_fd, VFIO_GROUP_SET_CONTAINER, &function->container_fd) < 0)
		return failed_errno("VFIO_GROUP_SET_CONTAINER of group %s", group);
	if (ioctl(function->container_fd, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return failed_errno("VFIO_SET_IOMMU for group %s (interrupts without remapping need "
				    "vfio_iommu_type1.allow_unsafe_interrupts=1)",
				    group);
	return true;
}

static bool region_info(struct vfio_function *function, uint32_t index, struct vfio_region_info *info)
{
	memset(info, 0, sizeof(*info));
	info->argsz = sizeof(*info);
	info->index = index;
	if (ioctl(function->device_fd, VFIO_DEVICE_GET_REGION_INFO, info) < 0)
		return failed_errno("VFIO_DEVICE_GET_REGION_INFO %u of %s", index, function->pci.address);
	return true;
}

static bool map_bar0(struct vfio_function *function)
{
	struct vfio_region_info info;
	void *bar;

	if (!region_info(function, VFIO_PCI_BAR0_REGION_INDEX, &info))
		return false;
	if (info.size == 0 || !(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
		return failed("BAR 0 of %s cannot be mapped: size 0x%llx, flags 0x%x", function->pci.address,
			      (unsigned long long)info.size, info.flags);
	bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, function->device_fd, (off_t)info.offset);
	if (bar == MAP_FAILED)
		return failed_errno("cannot map BAR 0 of %s", function->pci.address);
	function->pci.bar0 = bar;
	function->pci.bar0_size = info.size;
	return true;
}

static bool enable_bus_mastering(struct vfio_function *function)
{
	struct vfio_region_info info;
	uint16_t wanted = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, command;
	off_t offset;

	if (!region_info(function, VFIO_PCI_CONFIG_REGION_INDEX, &info))
		return false;
	function->config_offset = info.offset;
	offset = (off_t)(function->config_offset + PCI_COMMAND);
	if (pread(function->device_fd, &command, sizeof(command), offset) != sizeof(command))
		return failed_errno("cannot read COMMAND of %s", function->pci.address);
	command |= wanted;
	if (pwrite(function->device_fd, &command, sizeof(command), offset) != sizeof(command))
		return failed_errno("cannot write COMMAND of %s", function->pci.address);
	if (pread(function->device_fd, &command, sizeof(command), offset) != sizeof(command))
		return failed_errno("cannot read COMMAND of %s", function->pci.address);
	if ((command & wanted) != wanted)
		return failed("COMMAND of %s: expected memory and bus master on, seen 0x%04x", function->pci.address,
			      command);
	return true;
}

bool vfio_open(struct vfio_function *function, const char *address)
{
	memset(function, 0, sizeof(*function));
	function->container_fd = function->group_fd = function->device_fd = -1;
	snprintf(function->pci.address, sizeof(function->pci.address), "%s", address);

	if (!open_container(function) || !open_group(function))
		return false;
	function->device_fd = ioctl(function->group_fd, VFIO_GROUP_GET_DEVICE_FD, function->pci.address);
	if (function->device_fd < 0)
		return failed_errno("VFIO_GROUP_GET_DEVICE_FD of %s", function->pci.address);
	return map_bar0(function) && enable_bus_mastering(function);
}

/* Fails where the container has no IOMMU yet, which is of no matter: then nothing is mapped. */
static void unmap_all(struct vfio_function *function)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .flags = VFIO_DMA_UNMAP_FLAG_ALL };

	(void)ioctl(function->container_fd, VFIO_IOMMU_UNMAP_DMA, &unmap);
}

void vfio_close(struct vfio_function *function)
{
	if (function->pci.bar0)
		munmap((void *)function->pci.bar0, function->pci.bar0_size);
	function->pci.bar0 = NULL;
	if (function->device_fd >= 0)
		close(function->device_fd);
	/* The kernel would do it too, but only after it has taken the function out of the domain: that looks like a leak. */
	if (function->container_fd >= 0)
		unmap_all(function);
	if (function->group_fd >= 0)
		close(function->group_fd);
	if (function->container_fd >= 0)
		close(function->container_fd);
	function->device_fd = function->group_fd = function->container_fd = -1;
}

bool vfio_map(struct vfio_function *function, void *memory, uint64_t iova, uint64_t size, uint32_t access)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = access,
		.vaddr = (uintptr_t)memory,
		.iova = iova,
		.size = size,
	};

	if (ioctl(function->container_fd, VFIO_IOMMU_MAP_DMA, &map) < 0)
		return failed_errno("VFIO_IOMMU_MAP_DMA of 0x%llx bytes at IOVA 0x%llx", (unsigned long long)size,
				    (unsigned long long)iova);
	return true;
}

bool vfio_unmap(struct vfio_function *function, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = size };

	if (ioctl(function->container_fd, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
		return failed_errno("VFIO_IOMMU_UNMAP_DMA of 0x%llx bytes at IOVA 0x%llx", (unsigned long long)size,
				    (unsigned long long)iova);
	if (unmap.size != size)
		return failed("VFIO_IOMMU_UNMAP_DMA at IOVA 0x%llx: expected 0x%llx bytes unmapped, seen 0x%llx",
			      (unsigned long long)iova, (unsigned long long)size, (unsigned long long)unmap.size);
	return true;
}

bool vfio_irq_count(struct vfio_function *function, uint32_t index, uint32_t *count)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

	if (ioctl(function->device_fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0)
		return failed_errno("VFIO_DEVICE_GET_IRQ_INFO %u of %s", index, function->pci.address);
	*count = info.count;
	return true;
}

bool vfio_irq_connect(struct vfio_function *function, uint32_t index, int event_fd)
{
	union {
		struct vfio_irq_set set;
		uint8_t bytes[sizeof(struct vfio_irq_set) + sizeof(int32_t)];
	} request;
	int32_t descriptor = event_fd;
	bool disable = event_fd < 0;

	memset(&request, 0, sizeof(request));
	request.set.argsz = disable ? sizeof(request.set) : sizeof(request.bytes);
	request.set.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			    (disable ? VFIO_IRQ_SET_DATA_NONE : VFIO_IRQ_SET_DATA_EVENTFD);
	request.set.index = index;
	request.set.count = disable ? 0 : 1;
	memcpy(request.bytes + sizeof(request.set), &descriptor, sizeof(descriptor));
	if (ioctl(function->device_fd, VFIO_DEVICE_SET_IRQS, &request) < 0)
		return failed_errno("VFIO_DEVICE_SET_IRQS: %s interrupt index %u of %s", disable ? "disable" : "enable",
				    index, function->pci.address);
	return true;
}

bool vfio_irq_unmask(struct vfio_function *function, uint32_t index)
{
	struct vfio_irq_set set = {
		.argsz = sizeof(set),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = index,
		.start = 0,
		.count = 1,
	};

	if (ioctl(function->device_fd, VFIO_DEVICE_SET_IRQS, &set) < 0)
		return failed_errno("VFIO_DEVICE_SET_IRQS: unmask interrupt index %u of %s", index, function->pci.address);
	return true;
}
