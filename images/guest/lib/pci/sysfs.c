#include "pci/sysfs.h"

#include "report/report.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_file(const char *address, const char *name, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
	return open(path, flags | O_CLOEXEC);
}

static bool write_file(const char *address, const char *name, const char *text)
{
	int fd = open_file(address, name, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (!done)
		failed_errno("cannot write \"%s\" to %s of %s", text, name, address);
	if (fd >= 0)
		close(fd);
	return done;
}

/* A function that has no way of its own to be reset has no such file. */
static bool reset(const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", address);
	return access(path, F_OK) < 0 || write_file(address, "reset", "1");
}

static bool leave_driver(const char *address)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	return access(path, F_OK) < 0 || write_file(address, "driver/unbind", address);
}

/* Sets bits of COMMAND and clears others. */
static bool change_command(const char *address, uint16_t set, uint16_t clear)
{
	int fd = open_file(address, "config", O_RDWR);
	uint16_t command = 0, seen = 0;
	bool done;

	if (fd < 0)
		return failed_errno("cannot open the configuration space of %s", address);
	done = pread(fd, &command, sizeof(command), PCI_COMMAND) == sizeof(command);
	command = (uint16_t)((command | set) & ~clear);
	done = done && pwrite(fd, &command, sizeof(command), PCI_COMMAND) == sizeof(command) &&
	       pread(fd, &seen, sizeof(seen), PCI_COMMAND) == sizeof(seen);
	close(fd);
	if (!done)
		return failed_errno("cannot change COMMAND of %s", address);
	/* A function may have bits that stay on. */
	if ((seen & set) != set)
		return failed("COMMAND of %s: expected 0x%04x, seen 0x%04x", address, command, seen);
	return true;
}

static bool map_bar0(struct pci_function *function)
{
	int fd = open_file(function->address, "resource0", O_RDWR);
	struct stat status;
	void *bar;

	if (fd < 0)
		return failed_errno("cannot open BAR 0 of %s", function->address);
	if (fstat(fd, &status) < 0 || status.st_size == 0) {
		close(fd);
		return failed("BAR 0 of %s has no size", function->address);
	}
	bar = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (bar == MAP_FAILED)
		return failed_errno("cannot map BAR 0 of %s", function->address);
	function->bar0 = bar;
	function->bar0_size = (size_t)status.st_size;
	return true;
}

bool pci_set_bus_master(const char *address, bool enable)
{
	return enable ? change_command(address, PCI_COMMAND_MASTER, 0) : change_command(address, 0, PCI_COMMAND_MASTER);
}

bool pci_open(struct pci_function *function, const char *address)
{
	char path[128];

	memset(function, 0, sizeof(*function));
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	if (access(path, F_OK) < 0)
		return failed("there is no PCI function %s", address);
	snprintf(function->address, sizeof(function->address), "%s", address);
	return leave_driver(address) && reset(address) &&
	       change_command(address, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0) && map_bar0(function);
}

void pci_close(struct pci_function *function)
{
	if (function->bar0) {
		munmap((void *)function->bar0, function->bar0_size);
		change_command(function->address, 0, PCI_COMMAND_MASTER);
		reset(function->address);
	}
	memset(function, 0, sizeof(*function));
}
