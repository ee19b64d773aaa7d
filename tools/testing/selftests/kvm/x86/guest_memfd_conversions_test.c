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

/* Neither the guest nor, if the page is shared, the host finds anything. */
static void check_zeroes(struct kvm_vcpu *vcpu, u8 *mem, int page, bool private)
{
	u64 *words = (u64 *)page_hva(mem, page);
	int i;

	/* What would be the page before the first one has no value. */
	__guest_check(vcpu, page_gpa(page), -1, 1, 0);

	for (i = 0; i < WORDS_PER_PAGE && !private; i++)
		TEST_ASSERT(!words[i], "Page %d has 0x%lx at word %d", page, words[i], i);
}

/* C11, C21: All private or all shared, nothing allocated. */
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

/* C10, C15: Whoever comes next finds what the other side left. */
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

		/* In a sea of shared, to private and back. */
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

/* C3, C9: What is private is what was last made private, and nothing else. */
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

/* C7: Nothing to do is nothing done: whatever is mapped stays mapped. */
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

	/* To be sure that faults are counted. */
	to_private(self->fd, 9, 1);
	ASSERT_EQ(1, guest_faults(self->vcpu, 0, NR_PAGES));
	to_shared(self->fd, 9, 1);
	ASSERT_EQ(1, guest_faults(self->vcpu, 0, NR_PAGES));
	ASSERT_EQ(1, host_faults(self->mem, 8, 12));
}

/* C7, C10: In a mixed range, pages that have the wanted state are left alone. */
TEST_F(gmem, mixed)
{
	const int nr_private = __builtin_popcountll(MIXED);
	int i;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);

	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	to_private(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(!(MIXED & BIT_ULL(i)), guest_faults(self->vcpu, i, 1))
			TH_LOG("page %d", i);
	check_state(self->mem, ALL_PAGES);

	set_state(self->fd, MIXED);
	guest_faults(self->vcpu, 0, NR_PAGES);
	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(!!(MIXED & BIT_ULL(i)), guest_faults(self->vcpu, i, 1))
			TH_LOG("page %d", i);

	/* Same for the host, which never had the private ones. */
	set_state(self->fd, MIXED);
	to_shared(self->fd, 0, NR_PAGES);
	host_faults(self->mem, 0, NR_PAGES);
	set_state(self->fd, MIXED);
	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(nr_private, host_faults(self->mem, 0, NR_PAGES));

	guest_check(self->vcpu, 0, NR_PAGES, 1);
	host_check(self->mem, 0, NR_PAGES, 1);
}

/* C11: Converting isn't allocating. */
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

/* C11: Zeroes, in all of a page, for the one that happens to be first. */
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

/* C11, C12: To allocate has nothing to do with what is private. */
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

	/* Allocated as the one kind, and used as the other for the first time. */
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

/* C12: A hole is a hole in the memory, not in what is known about it. */
TEST_F(gmem, punch_hole)
{
	/* From private over shared to private. */
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

	/* Page by page, the state stays with the index and not with the page. */
	set_state(self->fd, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 2);
	for (i = 0; i < NR_PAGES; i++) {
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      i * PAGE_SIZE, PAGE_SIZE);
		ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(i)));
		ASSERT_EQ(!!(MIXED & BIT_ULL(i)), read_raises_sigbus(page_hva(self->mem, i)));
	}
	check_state(self->mem, MIXED);

	/* Holes can be converted, and there is nothing behind them. */
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

/* C11, C17: Nothing is left to be done for a guest that has its memory mapped. */
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
 * C10, C13, C17: Pages are converted while they are being mapped, which neither is
 * in the way of the conversion nor makes anything of it.
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
		/* At times there's something to be mapped everywhere. */
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

	/* Be sure that it's done, and not stuck. */
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
 * C4, C6, C9, C14: A host that touches what is being converted gets it or doesn't, but not for
 * longer than the page is shared.
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
