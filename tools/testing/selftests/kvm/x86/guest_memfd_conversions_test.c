// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that pages of a guest_memfd are converted in place between private and
 * shared: what changes sides, what stays where it is, and who sees what.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#include <linux/falloc.h>

#include "gmem_fixture.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* Verify that the guest and, if the page is shared, the host find nothing there. */
static void check_zeroes(struct kvm_vcpu *vcpu, u8 *mem, int page, bool private)
{
	u64 *words = (u64 *)page_hva(mem, page);
	int i;

	/* A page_val() of 0: all words of the page are zero. */
	__guest_check(vcpu, page_gpa(page), -1, 1, 0);

	for (i = 0; i < WORDS_PER_PAGE && !private; i++)
		TEST_ASSERT(!words[i], "Page %d has 0x%lx at word %d", page, words[i], i);
}

/* C11, C21: Verify that all of a new file is private or shared, and nothing allocated. */
TEST_F(gmem, start_state)
{
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	check_state(self->mem, variant->init_state);
	ASSERT_EQ(__builtin_popcountll(~variant->init_state),
		  nr_allocated(self->fd, self->mem, GMEM_SIZE));

	/* Either way, the guest has zeroes and can write. */
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(0)));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(NR_PAGES - 1)));
	guest_fill(self->vcpu, 0, NR_PAGES, 1);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	check_state(self->mem, variant->init_state);
}

/* C10, C15: Convert pages, and verify that each side finds what the other side left. */
TEST_F(gmem, convert)
{
	static const struct {
		int first, nr;
	} ranges[] = {
		{ 0, 1 }, { NR_PAGES / 2, 1 }, { NR_PAGES - 1, 1 },
		{ 0, 7 }, { NR_PAGES / 2, 7 }, { NR_PAGES - 7, 7 },
		{ 0, NR_PAGES },
	};
	int i, first, nr, end, gen = 0;

	for (i = 0; i < ARRAY_SIZE(ranges); i++) {
		first = ranges[i].first;
		nr = ranges[i].nr;
		end = first + nr;

		/* All pages are shared, make some private and back. */
		set_state(self->fd, 0);
		host_fill(self->mem, 0, NR_PAGES, ++gen);
		to_private(self->fd, first, nr);
		check_state(self->mem, pages(first, nr));
		guest_check(self->vcpu, 0, NR_PAGES, gen);

		guest_fill(self->vcpu, first, nr, gen + 1);
		to_shared(self->fd, first, nr);
		check_state(self->mem, 0);
		host_check(self->mem, 0, first, gen);
		host_check(self->mem, first, nr, gen + 1);
		host_check(self->mem, end, NR_PAGES - end, gen);
		host_fill(self->mem, first, nr, gen + 2);
		guest_check(self->vcpu, first, nr, gen + 2);
		gen += 2;

		/* And the other way round. */
		set_state(self->fd, ALL_PAGES);
		guest_fill(self->vcpu, 0, NR_PAGES, ++gen);
		to_shared(self->fd, first, nr);
		check_state(self->mem, ALL_PAGES & ~pages(first, nr));
		host_check(self->mem, first, nr, gen);

		host_fill(self->mem, first, nr, gen + 1);
		to_private(self->fd, first, nr);
		check_state(self->mem, ALL_PAGES);
		guest_check(self->vcpu, 0, first, gen);
		guest_check(self->vcpu, first, nr, gen + 1);
		guest_check(self->vcpu, end, NR_PAGES - end, gen);
		gen++;
	}
}

/* C3, C9: Convert random ranges, and verify which pages are private. */
TEST_F(gmem, convert_random)
{
	u64 state = variant->init_state;
	int i, first, nr;

	for (i = 0; i < 60; i++) {
		first = kvm_random_u32_in_range(&kvm_rng, 0, NR_PAGES - 1);
		nr = kvm_random_u32_in_range(&kvm_rng, 1, NR_PAGES - first);

		if (kvm_random_bool(&kvm_rng)) {
			to_private(self->fd, first, nr);
			state |= pages(first, nr);
		} else {
			to_shared(self->fd, first, nr);
			state &= ~pages(first, nr);
		}
		check_state(self->mem, state);
	}
}

/* C7: Convert pages to the state that they have, and verify that they stay mapped. */
TEST_F(gmem, no_op)
{
	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	host_faults(self->mem, 8, 12);
	ASSERT_EQ(0, host_faults(self->mem, 8, 12));

	to_shared(self->fd, 8, 12);
	to_shared(self->fd, 9, 1);
	to_private(self->fd, 20, 20);
	to_private(self->fd, 25, 1);
	ASSERT_EQ(0, host_faults(self->mem, 8, 12));
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	check_state(self->mem, MIXED);

	/* Verify that faults would have been counted. */
	to_private(self->fd, 9, 1);
	ASSERT_EQ(1, guest_faults(self->vcpu, 0, NR_PAGES));
	to_shared(self->fd, 9, 1);
	ASSERT_EQ(1, guest_faults(self->vcpu, 0, NR_PAGES));
	ASSERT_EQ(1, host_faults(self->mem, 8, 12));
}

/* C7, C10: Convert a mixed range, and verify that only pages that change are unmapped. */
TEST_F(gmem, mixed)
{
	const int nr_private = __builtin_popcountll(MIXED);
	u64 mappings;
	int i;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);

	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	mappings = guest_mappings(self->vcpu);
	to_private(self->fd, 0, NR_PAGES);
	ASSERT_EQ(mappings - (NR_PAGES - nr_private), guest_mappings(self->vcpu));
	for (i = 0; i < NR_PAGES; i++)
		if (MIXED & BIT_ULL(i))
			ASSERT_EQ(0, guest_faults(self->vcpu, i, 1))
				TH_LOG("page %d", i);
	check_state(self->mem, ALL_PAGES);

	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	mappings = guest_mappings(self->vcpu);
	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(mappings - nr_private, guest_mappings(self->vcpu));
	for (i = 0; i < NR_PAGES; i++)
		if (!(MIXED & BIT_ULL(i)))
			ASSERT_EQ(0, guest_faults(self->vcpu, i, 1))
				TH_LOG("page %d", i);

	/* Same for the host, which has never mapped the private ones. */
	set_state(self->fd, MIXED);
	to_shared(self->fd, 0, NR_PAGES);
	host_faults(self->mem, 0, NR_PAGES);
	ASSERT_EQ(NR_PAGES, host_mappings(self->mem));
	set_state(self->fd, MIXED);
	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(NR_PAGES - nr_private, host_mappings(self->mem));

	guest_check(self->vcpu, 0, NR_PAGES, 1);
	host_check(self->mem, 0, NR_PAGES, 1);
}

/* C11: Convert pages that were never touched, and verify that none is allocated. */
TEST_F(gmem, never_touched)
{
	const size_t size = SZ_256M;
	void *mem;
	int fd;

	fd = vm_create_guest_memfd(self->vm, size, variant->flags);
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	gmem_set_private(fd, 0, size);
	gmem_set_shared(fd, 0, size);
	gmem_set_private(fd, SZ_1M, SZ_1M);
	gmem_set_private(fd, size - SZ_1M, SZ_1M);
	gmem_set_shared(fd, 0, size);
	ASSERT_EQ(0, nr_allocated(fd, mem, size));
	ASSERT_EQ(0, *(u64 *)(mem + SZ_1M));
	ASSERT_EQ(1, nr_allocated(fd, mem, size));
	kvm_munmap(mem, size);
	kvm_close(fd);

	/* Zeroes for the guest, of both kinds, and for the host after it. */
	set_state(self->fd, MIXED);
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(3)));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(10)));
	ASSERT_EQ(2, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(2, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	ASSERT_EQ(0, host_read(self->mem, 3));
	ASSERT_EQ(0, host_read(self->mem, 4));
	ASSERT_EQ(3, nr_allocated(self->fd, self->mem, GMEM_SIZE));
}

/* C11: Verify that all of a new page is zeroes, whoever touches it first. */
TEST_F(gmem, zeroes)
{
	int i;

	set_state(self->fd, MIXED);
	dirty_free_pages();

	/* Shared pages for the host, for the guest, and private ones. */
	for (i = 8; i < 14; i++)
		ASSERT_EQ(0, host_read(self->mem, i));
	for (i = 0; i < NR_PAGES; i++)
		check_zeroes(self->vcpu, self->mem, i, MIXED & BIT_ULL(i));

	/* And after they were converted, with and without having been used. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE / 2);
	to_shared(self->fd, 0, NR_PAGES);
	to_private(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i += 5)
		check_zeroes(self->vcpu, self->mem, i, true);
	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		check_zeroes(self->vcpu, self->mem, i, false);
}

/* C11, C12: Allocate private and shared pages with fallocate(). */
TEST_F(gmem, fallocate)
{
	const int unsupported[] = {
		0, FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
		FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
	};
	int i, j;

	set_state(self->fd, MIXED);
	for (i = 0; i < ARRAY_SIZE(unsupported); i++) {
		ASSERT_EQ(-1, fallocate(self->fd, unsupported[i], 0, GMEM_SIZE));
		ASSERT_EQ(EOPNOTSUPP, errno);
	}
	ASSERT_EQ(-1, fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE + PAGE_SIZE));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));

	/* Across borders, and once more where there's something already. */
	dirty_free_pages();
	kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 2 * PAGE_SIZE, 20 * PAGE_SIZE);
	ASSERT_EQ(20, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
	ASSERT_EQ(NR_PAGES, nr_allocated(self->fd, self->mem, GMEM_SIZE));

	/* Allocate as private and use as shared, and vice versa. */
	to_shared(self->fd, 20, 10);
	to_private(self->fd, 8, 6);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(i)));
	check_state(self->mem, (MIXED & ~pages(20, 10)) | pages(8, 6));
	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		for (j = 0; j < PAGE_SIZE; j += sizeof(u64))
			ASSERT_EQ(0, *(u64 *)(page_hva(self->mem, i) + j));
}

/* C12: Punch holes, and verify that the data is gone and the attributes stay. */
TEST_F(gmem, punch_hole)
{
	/* Punch a hole from private pages over shared ones to private ones. */
	const int first = 5, nr = 30, end = first + nr;
	int i;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	dirty_free_pages();

	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      first * PAGE_SIZE, nr * PAGE_SIZE);
	ASSERT_EQ(NR_PAGES - nr, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	check_state(self->mem, MIXED);
	guest_check(self->vcpu, 0, first, 1);
	guest_check(self->vcpu, end, NR_PAGES - end, 1);

	for (i = first; i < end; i++)
		check_zeroes(self->vcpu, self->mem, i, MIXED & BIT_ULL(i));
	guest_check(self->vcpu, 0, first, 1);
	guest_check(self->vcpu, end, NR_PAGES - end, 1);

	to_shared(self->fd, 0, NR_PAGES);
	for (i = first; i < end; i++)
		ASSERT_EQ(0, host_read(self->mem, i));
	host_check(self->mem, 0, first, 1);
	host_check(self->mem, end, NR_PAGES - end, 1);

	/* Convert a range that begins with a hole. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE_SIZE);
	to_private(self->fd, 0, NR_PAGES);
	check_state(self->mem, -1ull);
	ASSERT_EQ(NR_PAGES - 1, nr_allocated(self->fd, self->mem, GMEM_SIZE));

	/* Punch out single pages: the state belongs to the index and not to the page. */
	set_state(self->fd, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 2);
	for (i = 0; i < NR_PAGES; i++) {
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      i * PAGE_SIZE, PAGE_SIZE);
		ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(i)));
		ASSERT_EQ(!!(MIXED & BIT_ULL(i)), read_raises_sigbus(page_hva(self->mem, i)));
	}
	check_state(self->mem, MIXED);

	/* Convert holes: they still read as zeroes. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
	set_state(self->fd, MIXED);
	ASSERT_EQ(0, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	check_state(self->mem, MIXED);
}

static void pre_fault(struct kvm_vcpu *vcpu, gpa_t gpa, u64 size)
{
	struct kvm_pre_fault_memory range = {
		.gpa = gpa,
		.size = size,
	};
	int r;

	do {
		r = __vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range);
		TEST_ASSERT(!r || errno == EINTR || errno == EAGAIN,
			    KVM_IOCTL_ERROR(KVM_PRE_FAULT_MEMORY, r));
	} while (range.size);
}

/* C11, C17: Pre-fault pages, and verify that the guest has no faults on them. */
TEST_F(gmem, pre_fault)
{
	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, 1);
	ASSERT_EQ(1, nr_allocated(self->fd, self->mem, GMEM_SIZE));

	pre_fault(self->vcpu, GMEM_GPA, GMEM_SIZE);
	ASSERT_EQ(NR_PAGES, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	check_state(self->mem, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 1);
	ASSERT_EQ(page_val(8, 1), host_read(self->mem, 8));

	to_private(self->fd, 0, NR_PAGES);
	pre_fault(self->vcpu, GMEM_GPA, GMEM_SIZE);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	to_shared(self->fd, 0, NR_PAGES);
	pre_fault(self->vcpu, GMEM_GPA, GMEM_SIZE);
	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

struct pre_faulter {
	struct kvm_vcpu *vcpu;
	u64 laps;
	bool stop;
};

static void *pre_fault_worker(void *data)
{
	struct pre_faulter *faulter = data;

	while (!READ_ONCE(faulter->stop)) {
		pre_fault(faulter->vcpu, GMEM_GPA, GMEM_SIZE);
		WRITE_ONCE(faulter->laps, faulter->laps + 1);
	}
	return NULL;
}

/*
 * C10, C13, C17: Convert pages while another thread pre-faults them: conversions
 * don't fail because of that, and what is mapped in the end matches the state.
 */
TEST_F(gmem, pre_faulting)
{
	struct pre_faulter faulter = {
		.vcpu = self->vcpu,
	};
	u64 error_page, lap, state = 0;
	int i, first, nr;
	pthread_t thread;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	guest_faults(self->vcpu, 0, 1);
	kvm_pthread_create(&thread, NULL, pre_fault_worker, &faulter);

	for (i = 0; i < 100; i++) {
		/* Now and then, give every page something to be mapped. */
		for (lap = READ_ONCE(faulter.laps); i % 8 == 0 && READ_ONCE(faulter.laps) == lap; )
			sched_yield();

		first = kvm_random_u32_in_range(&kvm_rng, 0, NR_PAGES - 1);
		nr = kvm_random_u32_in_range(&kvm_rng, 1, NR_PAGES - first);
		if (i & 1) {
			to_shared(self->fd, first, nr);
			state &= ~pages(first, nr);
		} else {
			ASSERT_EQ(0, try_private(self->fd, first, nr, &error_page))
				TH_LOG("page %lu", error_page);
			state |= pages(first, nr);
		}
	}

	/* Verify that the other thread makes progress. */
	for (lap = READ_ONCE(faulter.laps) + 2; READ_ONCE(faulter.laps) < lap; )
		sched_yield();
	WRITE_ONCE(faulter.stop, true);
	kvm_pthread_join(thread, NULL);

	ASSERT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	check_state(self->mem, state);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

struct host_toucher {
	u8 *mem;
	int first;
	int nr;
	bool stop;
	u64 nr_shared;
	u64 nr_private;
};

static void *touch_worker(void *data)
{
	struct host_toucher *toucher = data;
	int i;

	while (!READ_ONCE(toucher->stop)) {
		for (i = toucher->first; i < toucher->first + toucher->nr; i++) {
			if (read_raises_sigbus(page_hva(toucher->mem, i)))
				toucher->nr_private++;
			else
				toucher->nr_shared++;
		}
	}
	return NULL;
}

/*
 * C4, C6, C9, C14: Convert pages while the host touches them, and verify that the
 * host reads shared pages only.
 */
TEST_F(gmem, host_touching)
{
	struct host_toucher toucher = {
		.mem = self->mem,
		.first = 8,
		.nr = 4,
	};
	u64 error_page = 0;
	pthread_t thread;
	int i, j, r;

	set_state(self->fd, 0);
	kvm_pthread_create(&thread, NULL, touch_worker, &toucher);

	for (i = 0; i < 100; i++) {
		/* The host's own faults may well be in the way for a moment. */
		do {
			r = try_private(self->fd, 8, 4, &error_page);
			ASSERT_TRUE(!r || r == EAGAIN);
			ASSERT_TRUE(!r || (error_page >= 8 && error_page < 12));
		} while (r);
		for (j = 8; j < 12; j++)
			ASSERT_TRUE(read_raises_sigbus(page_hva(self->mem, j)));

		to_shared(self->fd, 8, 4);
		if (i & 1)
			kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      0, GMEM_SIZE);
		for (j = 8; j < 12; j++)
			ASSERT_FALSE(read_raises_sigbus(page_hva(self->mem, j)));
	}

	WRITE_ONCE(toucher.stop, true);
	kvm_pthread_join(thread, NULL);
	ASSERT_LT(0, toucher.nr_shared);
	ASSERT_LT(0, toucher.nr_private);
	check_state(self->mem, 0);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
