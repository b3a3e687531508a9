/* Cases in which the device's interrupt must reach this program, through VFIO's eventfd. */
#include "fixture.h"

#include "report/report.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SOURCE_IOVA 0x03450000ull
#define TARGET_IOVA 0x07890000ull

/* Any bit will do for an interrupt raised by hand, except the one that stands for the end of a DMA. */
#define RAISED_BIT 0x5

#define ARRIVAL_DEADLINE_MS 10000
/* How long a second arrival that must not come is waited for. */
#define QUIET_MS 100

/* Waits until the eventfd has counted something; 0 when nothing came in time. */
static bool take_events(int event_fd, int timeout_ms, uint64_t *events)
{
	struct pollfd wait = { .fd = event_fd, .events = POLLIN };
	int ready;

	do {
		ready = poll(&wait, 1, timeout_ms);
	} while (ready < 0 && errno == EINTR);
	*events = 0;
	if (ready == 0)
		return true;
	if (ready < 0 || read(event_fd, events, sizeof(*events)) != sizeof(*events))
		return failed_errno("cannot read the interrupt's eventfd");
	return true;
}

/* One arrival, with these bits in the device's interrupt status, cleared by acknowledging them. */
static bool expect_interrupt(struct edu *edu, int event_fd, uint32_t bits, const char *what)
{
	uint64_t events;
	uint32_t status;

	if (!take_events(event_fd, ARRIVAL_DEADLINE_MS, &events))
		return false;
	if (events != 1)
		return failed("%s: expected 1 interrupt within %d ms, seen %llu (interrupt status 0x%x)", what,
			      ARRIVAL_DEADLINE_MS, (unsigned long long)events, edu_interrupt_status(edu));
	status = edu_interrupt_status(edu);
	if (status != bits)
		return failed("%s: expected interrupt status 0x%x, seen 0x%x", what, bits, status);
	edu_acknowledge_interrupt(edu, bits);
	status = edu_interrupt_status(edu);
	if (status != 0)
		return failed("%s: expected interrupt status 0 after acknowledging, seen 0x%x", what, status);
	return true;
}

static bool expect_quiet(int event_fd, const char *what)
{
	uint64_t events;

	if (!take_events(event_fd, QUIET_MS, &events))
		return false;
	return events == 0 || failed("%s: expected no interrupt, seen %llu", what, (unsigned long long)events);
}

static bool check_msi(struct fixture *fixture, struct edu *edu, int event_fd)
{
	struct dma_buffer *source = use_buffer(fixture, edu, SMALL_PAGE, SOURCE_IOVA, READ_ONLY);
	struct dma_buffer *target = source ? use_buffer(fixture, edu, SMALL_PAGE, TARGET_IOVA, READ_WRITE) : NULL;

	if (!target)
		return false;
	fill_pattern(source->memory, SMALL_PAGE, 21);
	if (!vfio_irq_connect(vfio_of(fixture, edu), VFIO_PCI_MSI_IRQ_INDEX, event_fd) ||
	    !expect_quiet(event_fd, "before anything was raised"))
		return false;
	edu_raise_interrupt(edu, RAISED_BIT);
	if (!expect_interrupt(edu, event_fd, RAISED_BIT, "raised by hand") ||
	    !expect_quiet(event_fd, "after acknowledging") ||
	    !edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) ||
	    !edu_write_and_interrupt(edu, target->iova, 0, EDU_BUFFER_SIZE) ||
	    !expect_interrupt(edu, event_fd, EDU_IRQ_DMA, "at the end of a DMA") ||
	    !same_bytes(source->memory, target->memory, SMALL_PAGE, "memory when the interrupt came") ||
	    !vfio_irq_connect(vfio_of(fixture, edu), VFIO_PCI_MSI_IRQ_INDEX, -1))
		return false;
	fact_number("interrupts", 2);
	detail("one interrupt raised by hand and one at the end of a DMA, each seen once and acknowledged");
	return true;
}

bool case_msi(struct fixture *fixture)
{
	struct edu *edu = use_edu(fixture);
	uint32_t vectors;
	int event_fd;
	bool passed;

	if (!edu || !vfio_irq_count(vfio_of(fixture, edu), VFIO_PCI_MSI_IRQ_INDEX, &vectors))
		return false;
	if (vectors == 0)
		return failed("expected an MSI capability, seen none");
	event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event_fd < 0)
		return failed_errno("eventfd");
	passed = check_msi(fixture, edu, event_fd);
	close(event_fd);
	return passed;
}

static bool check_intx(struct fixture *fixture, struct edu *edu, int event_fd)
{
	uint64_t events;

	if (!vfio_irq_connect(vfio_of(fixture, edu), VFIO_PCI_INTX_IRQ_INDEX, event_fd))
		return false;
	edu_raise_interrupt(edu, RAISED_BIT);
	if (!take_events(event_fd, ARRIVAL_DEADLINE_MS, &events))
		return false;
	if (events != 1)
		return failed("raised: expected 1 interrupt, seen %llu", (unsigned long long)events);
	if (!expect_quiet(event_fd, "while masked"))
		return false;
	/* The device still asks for service: a level-triggered line fires again as soon as it is unmasked. */
	if (!vfio_irq_unmask(vfio_of(fixture, edu), VFIO_PCI_INTX_IRQ_INDEX) ||
	    !expect_interrupt(edu, event_fd, RAISED_BIT, "unmasked without acknowledging") ||
	    !vfio_irq_unmask(vfio_of(fixture, edu), VFIO_PCI_INTX_IRQ_INDEX) ||
	    !expect_quiet(event_fd, "unmasked after acknowledging"))
		return false;
	edu_raise_interrupt(edu, RAISED_BIT);
	if (!expect_interrupt(edu, event_fd, RAISED_BIT, "raised again") ||
	    !vfio_irq_connect(vfio_of(fixture, edu), VFIO_PCI_INTX_IRQ_INDEX, -1))
		return false;
	fact_number("interrupts", 3);
	detail("level held until acknowledged, masked and unmasked: three interrupts, each seen once");
	return true;
}

bool case_intx(struct fixture *fixture)
{
	struct edu *edu = use_edu(fixture);
	uint32_t pins;
	int event_fd;
	bool passed;

	if (!edu || !vfio_irq_count(vfio_of(fixture, edu), VFIO_PCI_INTX_IRQ_INDEX, &pins))
		return false;
	if (pins == 0)
		return skipped(fixture, "the device has no interrupt pin");
	event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (event_fd < 0)
		return failed_errno("eventfd");
	passed = check_intx(fixture, edu, event_fd);
	close(event_fd);
	return passed;
}
