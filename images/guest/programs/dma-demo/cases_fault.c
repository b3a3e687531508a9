/* Cases in which the IOMMU must refuse the DMA, and the guest's kernel must say so. */
#include "fixture.h"

#include "report/report.h"

#define SOURCE_IOVA 0x02340000ull
#define TARGET_IOVA 0x05670000ull
#define VICTIM_IOVA 0x05680000ull
#define NEVER_MAPPED_IOVA 0x0badc000ull

#define GUARD 0x5a
/* Small enough to stay within one page: one refused access, one report. */
#define REFUSED_BYTES 64

/* A refused DMA must not have broken the device: what it read before still arrives where it is allowed to. */
static bool still_works(struct edu *edu, struct dma_buffer *source, struct dma_buffer *target)
{
	fill_byte(target->memory, SMALL_PAGE, GUARD);
	return edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) && edu_write(edu, target->iova, 0, EDU_BUFFER_SIZE) &&
	       same_bytes(source->memory, target->memory, SMALL_PAGE, "a good DMA after the refused one");
}

/* `warm`: the device reads the page first, so that the refused write meets a translation in the IOTLB. */
static bool write_to_read_only(struct fixture *fixture, bool warm)
{
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target, *victim;
	uint8_t expected[SMALL_PAGE];

	if (!edu)
		return false;
	source = use_buffer(fixture, edu, SMALL_PAGE, SOURCE_IOVA, READ_ONLY);
	target = use_buffer(fixture, edu, SMALL_PAGE, TARGET_IOVA, READ_WRITE);
	victim = use_buffer(fixture, edu, SMALL_PAGE, VICTIM_IOVA, READ_ONLY);
	if (!source || !target || !victim || !fact_buffer(victim))
		return false;
	/* The device holds other bytes than the page, or a write that got through could not be seen. */
	fill_pattern(source->memory, SMALL_PAGE, 11);
	fill_pattern(victim->memory, SMALL_PAGE, 12);
	fill_pattern(expected, SMALL_PAGE, 12);
	if (warm && !edu_read(edu, victim->iova, 0, EDU_BUFFER_SIZE))
		return false;
	return edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) &&
	       expect_fault(fixture, edu, victim->iova, REFUSED_BYTES, true) &&
	       same_bytes(expected, victim->memory, SMALL_PAGE, "the read-only page after the refused write") &&
	       still_works(edu, source, target);
}

bool case_read_only(struct fixture *fixture)
{
	return write_to_read_only(fixture, false);
}

bool case_read_only_cached(struct fixture *fixture)
{
	return write_to_read_only(fixture, true);
}

bool case_unmapped(struct fixture *fixture)
{
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target;

	if (!edu)
		return false;
	source = use_buffer(fixture, edu, SMALL_PAGE, SOURCE_IOVA, READ_ONLY);
	target = use_buffer(fixture, edu, SMALL_PAGE, TARGET_IOVA, READ_WRITE);
	if (!source || !target)
		return false;
	fill_pattern(source->memory, SMALL_PAGE, 13);
	fact_address("iova", NEVER_MAPPED_IOVA);
	return expect_fault(fixture, edu, NEVER_MAPPED_IOVA, REFUSED_BYTES, false) &&
	       expect_fault(fixture, edu, NEVER_MAPPED_IOVA, REFUSED_BYTES, true) && still_works(edu, source, target);
}

bool case_use_after_unmap(struct fixture *fixture)
{
	struct edu *edu = use_edu(fixture);
	struct dma_buffer *source, *target, *victim;
	uint64_t iova;

	if (!edu)
		return false;
	source = use_buffer(fixture, edu, SMALL_PAGE, SOURCE_IOVA, READ_ONLY);
	target = use_buffer(fixture, edu, SMALL_PAGE, TARGET_IOVA, READ_WRITE);
	victim = use_buffer(fixture, edu, SMALL_PAGE, VICTIM_IOVA, READ_WRITE);
	if (!source || !target || !victim || !fact_buffer(victim))
		return false;
	iova = victim->iova;
	fill_pattern(source->memory, SMALL_PAGE, 14);
	/* The DMA that works also leaves the translation in the IOTLB. */
	if (!edu_read(edu, source->iova, 0, EDU_BUFFER_SIZE) || !edu_write(edu, iova, 0, REFUSED_BYTES) ||
	    !same_bytes(source->memory, victim->memory, REFUSED_BYTES, "the page while it was mapped"))
		return false;
	fill_byte(victim->memory, SMALL_PAGE, GUARD);
	return buffer_unmap(victim) && expect_fault(fixture, edu, iova, REFUSED_BYTES, true) &&
	       all_bytes(victim->memory, SMALL_PAGE, GUARD, "the page after it was unmapped") &&
	       still_works(edu, source, target);
}
