/* Logical addresses that are set apart first and mapped in pieces later. */
#include "cases.h"
#include "dma_iommu_cases/checks.h"

#define TOKEN_IOVA 0x120008000000ull
#define TOKEN_PAGES 4

static unsigned long long printable(uint64_t value)
{
	return value;
}

/* A setting with a token of four pages at TOKEN_IOVA, and two pages to map in it. */
struct reservation {
	struct setting setting;
	PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN token;
	uint8_t *pages;
	IOMMU_MAP_PHYSICAL_ADDRESS map;
};

static bool use_reservation(struct fixture *fixture, struct reservation *reservation)
{
	IOMMU_DMA_LOGICAL_ADDRESS wanted = TOKEN_IOVA;

	TRY(use_setting(fixture, &reservation->setting));
	reservation->pages = use_pages(fixture, 2);
	TRY(reservation->pages);
	reservation->map = (IOMMU_MAP_PHYSICAL_ADDRESS){
		.MapType = MapPhysicalAddressTypeContiguousRange,
		.ContiguousRange = { .Base = physical_of(fixture, reservation->pages), .Size = 2 * SMALL_PAGE },
	};
	SUCCEEDS(fixture->v3.ReserveLogicalAddressRange(reservation->setting.domain, TOKEN_PAGES * SMALL_PAGE, &wanted,
							NULL, NULL, &reservation->token));
	return true;
}

/* The page of the reservation's memory at a page of its token. */
static struct place place_at(const struct reservation *reservation, uint64_t token_page, size_t page)
{
	return (struct place){ TOKEN_IOVA + token_page * SMALL_PAGE, reservation->pages + page * SMALL_PAGE };
}

static bool page_works(const struct reservation *reservation, struct place place)
{
	return moves(reservation->setting.device, reservation->setting.source, place, EDU_BUFFER_SIZE);
}

static bool page_faults(struct fixture *fixture, const struct reservation *reservation, struct place place)
{
	return write_refused(fixture, reservation->setting.device, place,
			     fault_in(&reservation->setting, TranslationFault));
}

bool case_reserve(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DMA_LOGICAL_ADDRESS odd = 0x1001, inside = TOKEN_IOVA + SMALL_PAGE, free = 0x1000, out;
	struct reservation one;
	PIOMMU_DMA_LOGICAL_ADDRESS_TOKEN none;
	PIOMMU_DMA_DOMAIN callers, domain;

	TRY(use_reservation(fixture, &one));
	domain = one.setting.domain;
	if (one.token->LogicalAddressBase != TOKEN_IOVA || one.token->Size != TOKEN_PAGES * SMALL_PAGE)
		return failed("expected a token of 0x%llx bytes at 0x%llx, seen 0x%zx at 0x%llx",
			      TOKEN_PAGES * SMALL_PAGE, TOKEN_IOVA, one.token->Size,
			      printable(one.token->LogicalAddressBase));
	/* Set apart: closed for DMA, and for anything else that wants it. */
	TRY(page_faults(fixture, &one, place_at(&one, 0, 0)));
	REFUSES(v3->MapLogicalRangeEx(domain, READ, &one.map, &inside, NULL, NULL, &out), DMA_IOMMU_NT_IN_USE);
	REFUSES(v3->ReserveLogicalAddressRange(domain, SMALL_PAGE, &inside, NULL, NULL, &none), DMA_IOMMU_NT_IN_USE);
	REFUSES(v3->ReserveLogicalAddressRange(domain, 0x1800, &free, NULL, NULL, &none),
		DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v3->ReserveLogicalAddressRange(domain, SMALL_PAGE, &odd, NULL, NULL, &none),
		DMA_IOMMU_NT_INVALID_PARAMETER_3);
	REFUSES(v3->ReserveLogicalAddressRange(domain, SMALL_PAGE, NULL, NULL, NULL, &none), DMA_IOMMU_NT_NOT_SUPPORTED);
	SUCCEEDS(fixture->v1.CreateDomain(0, &callers));
	REFUSES(v3->ReserveLogicalAddressRange(callers, SMALL_PAGE, &free, NULL, NULL, &none),
		DMA_IOMMU_NT_INVALID_PARAMETER_1);
	detail("%d pages at 0x%llx set apart: no DMA, no other mapping, no other token", TOKEN_PAGES,
	       printable(TOKEN_IOVA));
	return true;
}

bool case_free_reserved(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT segment;
	IOMMU_DMA_LOGICAL_ADDRESS wanted = TOKEN_IOVA, out;
	struct reservation one;

	TRY(use_reservation(fixture, &one));
	SUCCEEDS(v3->MapReservedLogicalRange(one.token, 0, READ_WRITE, &one.map, &segment));
	REFUSES(v3->FreeReservedLogicalAddressRange(one.token), DMA_IOMMU_NT_RESOURCE_IN_USE);
	TRY(page_works(&one, place_at(&one, 0, 0)));
	SUCCEEDS(v3->UnmapReservedLogicalRange(&segment));
	/* The domain stays as long as the token does. */
	SUCCEEDS(fixture->v1.DetachDevice(one.setting.domain, one.setting.device->object, 0));
	REFUSES(v3->DeleteDomain(one.setting.domain), DMA_IOMMU_NT_RESOURCE_IN_USE);
	SUCCEEDS(v3->FreeReservedLogicalAddressRange(one.token));
	SUCCEEDS(fixture->v1.AttachDevice(one.setting.domain, one.setting.device->object, 0, 1));
	SUCCEEDS(v3->MapLogicalRangeEx(one.setting.domain, READ_WRITE, &one.map, &wanted, NULL, NULL, &out));
	TRY(page_works(&one, place_at(&one, 1, 1)));
	SUCCEEDS(fixture->v1.DetachDevice(one.setting.domain, one.setting.device->object, 0));
	SUCCEEDS(v3->DeleteDomain(one.setting.domain));
	detail("refused while a segment was mapped; its addresses are anybody's afterwards, and the domain can go");
	return true;
}

bool case_map_reserved(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT first, second, none;
	IOMMU_MAP_PHYSICAL_ADDRESS one_page, half;
	struct reservation one;

	TRY(use_reservation(fixture, &one));
	one_page = half = one.map;
	one_page.ContiguousRange.Size = SMALL_PAGE;
	half.ContiguousRange.Size = SMALL_PAGE / 2;
	SUCCEEDS(v3->MapReservedLogicalRange(one.token, 0, READ_WRITE, &one_page, &first));
	SUCCEEDS(v3->MapReservedLogicalRange(one.token, 2 * SMALL_PAGE, READ_WRITE, &one.map, &second));
	if (second.OwningToken != one.token || second.Offset != 2 * SMALL_PAGE || second.Size != 2 * SMALL_PAGE)
		return failed("expected a segment of 0x%llx bytes at 0x%llx, seen 0x%zx at 0x%zx", 2 * SMALL_PAGE,
			      2 * SMALL_PAGE, second.Size, second.Offset);
	TRY(page_works(&one, place_at(&one, 0, 0)));
	TRY(page_works(&one, place_at(&one, 2, 0)));
	TRY(page_works(&one, place_at(&one, 3, 1)));
	TRY(page_faults(fixture, &one, place_at(&one, 1, 0)));
	/* Its second page is the second segment's; nothing of it is mapped. */
	REFUSES(v3->MapReservedLogicalRange(one.token, SMALL_PAGE, READ, &one.map, &none), DMA_IOMMU_NT_RESOURCE_IN_USE);
	TRY(page_faults(fixture, &one, place_at(&one, 1, 0)));
	REFUSES(v3->MapReservedLogicalRange(one.token, 100, READ, &one_page, &none), DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v3->MapReservedLogicalRange(one.token, 3 * SMALL_PAGE, READ, &one.map, &none),
		DMA_IOMMU_NT_INVALID_PARAMETER_2);
	REFUSES(v3->MapReservedLogicalRange(one.token, SMALL_PAGE, READ, &half, &none),
		DMA_IOMMU_NT_INVALID_PARAMETER_4);
	detail("two segments of one token, a closed page between them; overlaps and what lies outside refused");
	return true;
}

bool case_unmap_reserved(struct fixture *fixture)
{
	const DMA_IOMMU_INTERFACE_V3 *v3 = &fixture->v3;
	IOMMU_DMA_LOGICAL_ADDRESS_TOKEN_MAPPED_SEGMENT first, second, again;
	IOMMU_MAP_PHYSICAL_ADDRESS one_page;
	struct reservation one;

	TRY(use_reservation(fixture, &one));
	one_page = one.map;
	one_page.ContiguousRange.Size = SMALL_PAGE;
	SUCCEEDS(v3->MapReservedLogicalRange(one.token, 0, READ_WRITE, &one_page, &first));
	SUCCEEDS(v3->MapReservedLogicalRange(one.token, SMALL_PAGE, READ_WRITE, &one_page, &second));
	/* Both lead to the same page, and are cached. */
	TRY(page_works(&one, place_at(&one, 0, 0)) && page_works(&one, place_at(&one, 1, 0)));
	SUCCEEDS(v3->UnmapReservedLogicalRange(&first));
	TRY(page_faults(fixture, &one, place_at(&one, 0, 0)));
	TRY(page_works(&one, place_at(&one, 1, 0)));
	REFUSES(v3->UnmapReservedLogicalRange(&first), DMA_IOMMU_NT_INVALID_PARAMETER);
	SUCCEEDS(v3->MapReservedLogicalRange(one.token, 0, READ_WRITE, &one_page, &again));
	TRY(page_works(&one, place_at(&one, 0, 0)));
	detail("a cached segment refused at once, its neighbour left alone; its place can be mapped again");
	return true;
}
