// SPDX-License-Identifier: GPL-2.0
/*
 * A driver for the edu device with nothing but one transfer: the device writes 256 bytes of its buffer into memory. With bug=1 the
 * driver unmaps the memory before the device is told to write; 2 warns, 3 fails, 4 panics and 5 writes to nowhere.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>

#define LENGTH 256
#define REG_SOURCE 0x80
#define REG_DESTINATION 0x88
#define REG_COUNT 0x90
#define REG_COMMAND 0x98
#define COMMAND_START 0x01
#define COMMAND_TO_MEMORY 0x02
#define DEVICE_BUFFER 0x40000
#define POLL_US 1000
#define POLLS 1000

static int bug;
module_param(bug, int, 0444);
static int transfers;
module_param(transfers, int, 0444);
MODULE_PARM_DESC(transfers, "transfers that came to an end");

static int wait_idle(void __iomem *bar)
{
	int i;

	for (i = 0; i < POLLS; i++) {
		if (!(readl(bar + REG_COMMAND) & COMMAND_START))
			return 0;
		usleep_range(POLL_US, 2 * POLL_US);
	}
	return -ETIMEDOUT;
}

static int fill(struct device *device, void __iomem *bar)
{
	void *memory = kzalloc(LENGTH, GFP_KERNEL);
	dma_addr_t address;
	int error;

	if (!memory)
		return -ENOMEM;
	address = dma_map_single(device, memory, LENGTH, DMA_FROM_DEVICE);
	error = dma_mapping_error(device, address);
	if (error)
		goto out;
	if (bug == 1)
		dma_unmap_single(device, address, LENGTH, DMA_FROM_DEVICE);
	writeq(DEVICE_BUFFER, bar + REG_SOURCE);
	writeq(address, bar + REG_DESTINATION);
	writeq(LENGTH, bar + REG_COUNT);
	writeq(COMMAND_START | COMMAND_TO_MEMORY, bar + REG_COMMAND);
	error = wait_idle(bar);
	if (bug != 1)
		dma_unmap_single(device, address, LENGTH, DMA_FROM_DEVICE);
out:
	kfree(memory);
	return error;
}

static int edu_fill_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	void __iomem *bar;
	int error = pcim_enable_device(pdev);

	if (!error)
		error = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(28));
	if (error)
		return error;
	bar = pcim_iomap(pdev, 0, 0);
	if (!bar)
		return -ENOMEM;
	pci_set_master(pdev);
	WARN_ON(bug == 2);
	error = fill(&pdev->dev, bar);
	if (!error)
		transfers++;
	return error;
}

static const struct pci_device_id edu_fill_ids[] = { { PCI_DEVICE(0x1234, 0x11e8) }, {} };
MODULE_DEVICE_TABLE(pci, edu_fill_ids);

static struct pci_driver edu_fill_driver = {
	.name = "edu_fill",
	.id_table = edu_fill_ids,
	.probe = edu_fill_probe,
};

static int __init edu_fill_init(void)
{
	if (bug == 3)
		return -EINVAL;
	if (bug == 4)
		panic("edu_fill was told to");
	if (bug == 5)
		*(volatile int *)8 = 1;
	return pci_register_driver(&edu_fill_driver);
}
module_init(edu_fill_init);

static void __exit edu_fill_exit(void)
{
	pci_unregister_driver(&edu_fill_driver);
}
module_exit(edu_fill_exit);

MODULE_DESCRIPTION("a driver with bugs on demand");
MODULE_LICENSE("GPL");
