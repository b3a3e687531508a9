// SPDX-License-Identifier: MIT
/*
 * A driver for the educational PCI device 1234:11e8: /dev/edu0 is the 4 KiB buffer of the first. What is written there goes
 * to the device by DMA, and what is read comes back from it, in two bursts with an interrupt behind each.
 *
 * With the parameter bug=1 the driver has a bug for the sanitizer to find: it takes the interrupt behind the first burst for
 * the end of the transfer.
 */
#include <linux/completion.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#define EDU_VENDOR_ID 0x1234
#define EDU_DEVICE_ID 0x11e8

/* Registers in BAR 0. */
#define REG_IRQ_STATUS 0x24
#define REG_IRQ_ACKNOWLEDGE 0x64
#define REG_DMA_SOURCE 0x80
#define REG_DMA_DESTINATION 0x88
#define REG_DMA_COUNT 0x90
#define REG_DMA_COMMAND 0x98

#define COMMAND_START BIT(0)
#define COMMAND_TO_MEMORY BIT(1)
#define COMMAND_INTERRUPT BIT(2)

/* The device's buffer as its DMA engine addresses it. */
#define DEVICE_BUFFER 0x40000
#define BUFFER_BYTES 4096
#define BURST_BYTES (BUFFER_BYTES / 2)

#define ADDRESS_BITS 28
#define TIMEOUT (5 * HZ)

static bool bug;
module_param(bug, bool, 0444);
MODULE_PARM_DESC(bug, "give the buffer back before the second burst");

static atomic_t edu_count = ATOMIC_INIT(0);

struct edu {
	struct pci_dev *pdev;
	void __iomem *registers;
	struct completion burst_done;
	struct mutex lock; /* one transfer at a time */
	struct miscdevice misc;
	void *buffer;
};

static irqreturn_t edu_interrupt(int irq, void *data)
{
	struct edu *edu = data;
	u32 status = readl(edu->registers + REG_IRQ_STATUS);

	if (!status)
		return IRQ_NONE;
	writel(status, edu->registers + REG_IRQ_ACKNOWLEDGE);
	complete(&edu->burst_done);
	return IRQ_HANDLED;
}

static int edu_burst(struct edu *edu, dma_addr_t address, u32 offset, bool to_memory)
{
	u64 memory = address + offset;
	u64 device = DEVICE_BUFFER + offset;

	reinit_completion(&edu->burst_done);
	writeq(to_memory ? device : memory, edu->registers + REG_DMA_SOURCE);
	writeq(to_memory ? memory : device, edu->registers + REG_DMA_DESTINATION);
	writeq(BURST_BYTES, edu->registers + REG_DMA_COUNT);
	writeq(COMMAND_START | COMMAND_INTERRUPT | (to_memory ? COMMAND_TO_MEMORY : 0), edu->registers + REG_DMA_COMMAND);
	return wait_for_completion_timeout(&edu->burst_done, TIMEOUT) ? 0 : -ETIMEDOUT;
}

static int edu_transfer(struct edu *edu, enum dma_data_direction direction)
{
	bool to_memory = direction == DMA_FROM_DEVICE;
	dma_addr_t address = dma_map_single(&edu->pdev->dev, edu->buffer, BUFFER_BYTES, direction);
	int error;

	if (dma_mapping_error(&edu->pdev->dev, address))
		return -ENOMEM;
	error = edu_burst(edu, address, 0, to_memory);
	if (bug)
		dma_unmap_single(&edu->pdev->dev, address, BUFFER_BYTES, direction);
	if (!error)
		error = edu_burst(edu, address, BURST_BYTES, to_memory);
	if (!bug)
		dma_unmap_single(&edu->pdev->dev, address, BUFFER_BYTES, direction);
	return error;
}

static struct edu *edu_of(struct file *file)
{
	return container_of(file->private_data, struct edu, misc);
}

static ssize_t edu_read(struct file *file, char __user *to, size_t count, loff_t *position)
{
	struct edu *edu = edu_of(file);
	ssize_t result = 0;

	mutex_lock(&edu->lock);
	if (*position < BUFFER_BYTES)
		result = edu_transfer(edu, DMA_FROM_DEVICE);
	if (!result)
		result = simple_read_from_buffer(to, count, position, edu->buffer, BUFFER_BYTES);
	mutex_unlock(&edu->lock);
	return result;
}

static ssize_t edu_write(struct file *file, const char __user *from, size_t count, loff_t *position)
{
	struct edu *edu = edu_of(file);
	ssize_t result;
	int error;

	mutex_lock(&edu->lock);
	result = simple_write_to_buffer(edu->buffer, BUFFER_BYTES, position, from, count);
	if (result > 0) {
		error = edu_transfer(edu, DMA_TO_DEVICE);
		if (error)
			result = error;
	} else if (!result && count) {
		result = -ENOSPC;
	}
	mutex_unlock(&edu->lock);
	return result;
}

static const struct file_operations edu_operations = {
	.owner = THIS_MODULE,
	.read = edu_read,
	.write = edu_write,
	.llseek = default_llseek,
};

static void edu_free_vectors(void *pdev)
{
	pci_free_irq_vectors(pdev);
}

static void edu_stop_mastering(void *pdev)
{
	pci_clear_master(pdev);
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct device *dev = &pdev->dev;
	struct edu *edu = devm_kzalloc(dev, sizeof(*edu), GFP_KERNEL);
	int error;

	if (!edu)
		return -ENOMEM;
	edu->pdev = pdev;
	init_completion(&edu->burst_done);
	mutex_init(&edu->lock);
	/* A whole page, so that no other data is in it while the device may write there. */
	edu->buffer = (void *)devm_get_free_pages(dev, GFP_KERNEL | __GFP_ZERO, get_order(BUFFER_BYTES));
	if (!edu->buffer)
		return -ENOMEM;
	error = pcim_enable_device(pdev);
	if (error)
		return error;
	edu->registers = pcim_iomap(pdev, 0, 0);
	if (!edu->registers)
		return -ENOMEM;
	error = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(ADDRESS_BITS));
	if (error)
		return error;
	pci_set_master(pdev);
	error = devm_add_action_or_reset(dev, edu_stop_mastering, pdev);
	if (error)
		return error;
	error = pci_alloc_irq_vectors(pdev, 1, 1, PCI_IRQ_MSI);
	if (error < 0)
		return error;
	error = devm_add_action_or_reset(dev, edu_free_vectors, pdev);
	if (error)
		return error;
	error = devm_request_irq(dev, pci_irq_vector(pdev, 0), edu_interrupt, 0, KBUILD_MODNAME, edu);
	if (error)
		return error;

	edu->misc.minor = MISC_DYNAMIC_MINOR;
	edu->misc.name = devm_kasprintf(dev, GFP_KERNEL, "edu%d", atomic_inc_return(&edu_count) - 1);
	if (!edu->misc.name)
		return -ENOMEM;
	edu->misc.fops = &edu_operations;
	edu->misc.parent = dev;
	error = misc_register(&edu->misc);
	if (error)
		return error;
	pci_set_drvdata(pdev, edu);
	return 0;
}

static void edu_remove(struct pci_dev *pdev)
{
	struct edu *edu = pci_get_drvdata(pdev);

	misc_deregister(&edu->misc);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(EDU_VENDOR_ID, EDU_DEVICE_ID) },
	{ 0 },
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = "edu_dma",
	.id_table = edu_ids,
	.probe = edu_probe,
	.remove = edu_remove,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("Driver for the educational PCI device, with a bug on request");
MODULE_LICENSE("Dual MIT/GPL");
