// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test in-place conversion with memslots that differ from the guest_memfd: that
 * cover parts of it, several of them, or none; and with guest_memfds of all sizes.
 */
#include <fcntl.h>
#include <time.h>

#include <linux/falloc.h>

#include "gmem_fixture.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define QUARTER		(NR_PAGES / 4)

/* How many faults the guest has on a page, which must have its data. */
static u64 faults(struct kvm_vcpu *vcpu, gpa_t gpa, int page)
{
	u64 before = vcpu_get_stat(vcpu, pf_fixed);

	__guest_check(vcpu, gpa, page, 1, 1);
	return vcpu_get_stat(vcpu, pf_fixed) - before;
}

/* A guest_memfd that isn't bound yet, all shared, and its pages filled. */
static int create_filled(struct kvm_vm *vm, u64 flags, u8 **mem)
{
	int fd = vm_create_guest_memfd(vm, GMEM_SIZE, flags);

	*mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	to_shared(fd, 0, NR_PAGES);
	host_fill(*mem, 0, NR_PAGES, 1);
	return fd;
}

static void free_gmem(int fd, u8 *mem)
{
	kvm_munmap(mem, GMEM_SIZE);
	kvm_close(fd);
}

/* C18: Convert a file that has two memslots, and look at it by all of its users. */
TEST_F(gmem, two_memslots)
{
	const int half = NR_PAGES / 2;
	int fd, dup_fd, i;
	u64 mappings;
	u8 *mem;

	/* The second half of the file is at the first address, and vice versa. */
	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, variant->flags);
	vm_mem_region_delete(self->vm, GMEM_SLOT);
	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA, GMEM_SLOT, half,
		   KVM_MEM_GUEST_MEMFD, fd, half * PAGE_SIZE);
	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA2, GMEM_SLOT2, half,
		   KVM_MEM_GUEST_MEMFD, fd, 0);
	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	dup_fd = kvm_dup(fd);

	gmem_set_shared(fd, 0, GMEM_SIZE);
	__guest_fill(self->vcpu, GMEM_GPA, half, half, 1);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, half, 1);

	/* Have the guest's own code faulted in, so as not to count that. */
	__guest_check(self->vcpu, GMEM_GPA, half, half, 1);

	/* Four pages, two in each memslot. */
	mappings = guest_mappings(self->vcpu);
	gmem_set_private(dup_fd, (half - 2) * PAGE_SIZE, 4 * PAGE_SIZE);
	ASSERT_EQ(mappings - 4, guest_mappings(self->vcpu));
	for (i = 0; i < NR_PAGES; i++) {
		bool private = i >= half - 2 && i < half + 2;
		gpa_t gpa = i < half ? GMEM_GPA2 + i * PAGE_SIZE :
				       GMEM_GPA + (i - half) * PAGE_SIZE;

		__guest_check(self->vcpu, gpa, i, 1, 1);
		ASSERT_EQ(private, read_raises_sigbus(mem + i * PAGE_SIZE));
		ASSERT_EQ(private, read_raises_sigbus(addr_gpa2hva(self->vm, gpa)));
	}

	/* Delete and recreate a memslot: the state stays. */
	vm_mem_region_delete(self->vm, GMEM_SLOT2);
	kvm_close(fd);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(i >= half - 2 && i < half + 2, read_raises_sigbus(mem + i * PAGE_SIZE));
	vm_mem_add(self->vm, DEFAULT_VM_MEM_SRC, GMEM_GPA2, GMEM_SLOT2, half,
		   KVM_MEM_GUEST_MEMFD, dup_fd, 0);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(i >= half - 2 && i < half + 2, read_raises_sigbus(mem + i * PAGE_SIZE));
	__guest_check(self->vcpu, GMEM_GPA2, 0, half, 1);

	kvm_munmap(mem, GMEM_SIZE);
	kvm_close(dup_fd);
}

/*
 * C16, C18: Convert a file whose memslots are in another order, with holes between
 * them both in the file and in the address space.
 */
TEST_F(gmem, holes)
{
	/* The quarters 2 and 0 of the file, with the hole of a quarter between. */
	const gpa_t gpas[] = { GMEM_GPA2 + 2 * QUARTER * PAGE_SIZE, GMEM_GPA2 };
	static const struct {
		int first, nr;
	} ranges[] = {
		/* All, none, the end of one, the beginning of one, parts of both. */
		{ 0, NR_PAGES },
		{ QUARTER, QUARTER }, { 3 * QUARTER, QUARTER },
		{ QUARTER - 3, 6 },
		{ 2 * QUARTER - 3, 6 },
		{ QUARTER - 1, QUARTER + 2 },
		{ 0, 1 }, { QUARTER - 1, 1 }, { QUARTER, 1 },
		{ 2 * QUARTER, 1 }, { 3 * QUARTER - 1, 1 }, { 3 * QUARTER, 1 },
		{ NR_PAGES - 1, 1 },
	};
	int fd, i, j, quarter, nr_changed;
	bool private, changed;
	u64 mappings;
	gpa_t gpa;
	u8 *mem;

	fd = create_filled(self->vm, variant->flags, &mem);
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, gpas[0], QUARTER, fd, 0));
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2 + 1, gpas[1], QUARTER, fd, 2 * QUARTER));

	for (i = 0; i < 2 * ARRAY_SIZE(ranges); i++) {
		const int first = ranges[i / 2].first, nr = ranges[i / 2].nr;

		/* Once to private and once to shared, in what is otherwise not. */
		private = i & 1;
		set_state(fd, private ? 0 : ALL_PAGES);
		__guest_check(self->vcpu, gpas[0], 0, QUARTER, 1);
		__guest_check(self->vcpu, gpas[1], 2 * QUARTER, QUARTER, 1);
		mappings = guest_mappings(self->vcpu);

		if (private)
			to_private(fd, first, nr);
		else
			to_shared(fd, first, nr);
		check_state(mem, private ? pages(first, nr) : ALL_PAGES & ~pages(first, nr));

		nr_changed = 0;
		for (j = 0; j < NR_PAGES; j++) {
			quarter = j / QUARTER;
			gpa = gpas[quarter / 2] + j % QUARTER * PAGE_SIZE;
			changed = j >= first && j < first + nr;

			if (!(quarter & 1) && changed)
				nr_changed++;
			else if (!(quarter & 1))
				ASSERT_EQ(0, faults(self->vcpu, gpa, j))
					TH_LOG("range %d, page %d", i, j);
			if (changed != private)
				host_check(mem, j, 1, 1);
		}
		ASSERT_EQ(mappings - nr_changed, guest_mappings(self->vcpu));
	}

	for (i = QUARTER; i < 2 * QUARTER; i += QUARTER - 1)
		guest_read_mmio(self->vcpu, GMEM_GPA2 + i * PAGE_SIZE);
	guest_read_mmio(self->vcpu, GMEM_GPA2 + 3 * QUARTER * PAGE_SIZE);

	gmem_delete_slot(self->vm, GMEM_SLOT2);
	gmem_delete_slot(self->vm, GMEM_SLOT2 + 1);
	free_gmem(fd, mem);
}

/* C15, C18: Have the guest fault on poisoned pages, and verify what the exits say. */
TEST_F(gmem, memory_fault)
{
	const int first = 20, page = 30;
	struct kvm_run *run = self->vcpu->run;
	gpa_t gpa = GMEM_GPA2 + (page - first) * PAGE_SIZE;
	int fd, r;
	u8 *mem;

	fd = create_filled(self->vm, variant->flags, &mem);
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES - first, fd, first));

	/*
	 * Poison is what a software-protected VM's guest can't get past, also if
	 * the page is mapped already, and by way of nothing but the guest_memfd.
	 */
	__guest_check(self->vcpu, GMEM_GPA2, first, NR_PAGES - first, 1);
	r = poison_page(page_hva(mem, page));
	if (r == EINVAL || r == EPERM)
		SKIP(return, "No MADV_HWPOISON, needs CONFIG_MEMORY_FAILURE and root");
	ASSERT_EQ(0, r);

	/* Give all other pages the other state: poisoned pages can't change theirs. */
	to_private(fd, 0, page);
	to_private(fd, page + 1, NR_PAGES - page - 1);
	ASSERT_EQ(EHWPOISON, try_guest_read(self->vcpu, gpa));
	ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
	ASSERT_EQ(0, run->memory_fault.flags);
	ASSERT_EQ(gpa, run->memory_fault.gpa);
	ASSERT_EQ(PAGE_SIZE, run->memory_fault.size);

	/* Punch the page out: the guest gets a new one and goes on. */
	kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(0, guest_read(self->vcpu, gpa));

	gmem_delete_slot(self->vm, GMEM_SLOT2);
	free_gmem(fd, mem);
}

/*
 * C18: Convert a file with memslots that are next to each other, some of a single
 * page, and verify that each conversion reaches its pages and no others.
 */
TEST_F(gmem, adjacent)
{
	static const struct {
		int first, nr;
	} slots[] = {
		{ 0, 20 }, { 20, 1 }, { 21, 1 }, { 22, NR_PAGES - 22 },
	}, ranges[] = {
		{ 0, NR_PAGES }, { 19, 3 }, { 20, 1 }, { 21, 1 }, { 20, 2 },
	};
	u64 mappings;
	bool private;
	int fd, i, j;
	u8 *mem;

	fd = create_filled(self->vm, variant->flags, &mem);
	for (i = 0; i < ARRAY_SIZE(slots); i++)
		ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2 + i,
					   GMEM_GPA2 + slots[i].first * PAGE_SIZE,
					   slots[i].nr, fd, slots[i].first));

	for (i = 0; i < 2 * ARRAY_SIZE(ranges); i++) {
		const int first = ranges[i / 2].first, nr = ranges[i / 2].nr;

		private = i & 1;
		set_state(fd, private ? 0 : ALL_PAGES);
		__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
		mappings = guest_mappings(self->vcpu);

		if (private)
			to_private(fd, first, nr);
		else
			to_shared(fd, first, nr);

		ASSERT_EQ(mappings - nr, guest_mappings(self->vcpu));
		for (j = 18; j < 25; j++) {
			if (j < first || j >= first + nr)
				ASSERT_EQ(0, faults(self->vcpu, GMEM_GPA2 + j * PAGE_SIZE, j))
					TH_LOG("range %d, page %d", i, j);
		}
	}

	for (i = 0; i < ARRAY_SIZE(slots); i++)
		gmem_delete_slot(self->vm, GMEM_SLOT2 + i);
	free_gmem(fd, mem);
}

/* C16, C18: Convert with and without memslots, and recreate memslots in between. */
TEST_F(gmem, recreate_memslot)
{
	static const struct {
		gpa_t gpa;
		int first, nr;
	} layouts[] = {
		{ GMEM_GPA2, 0, NR_PAGES },
		{ GMEM_GPA2, QUARTER, NR_PAGES - QUARTER },
		{ GMEM_GPA2 + 7 * PAGE_SIZE, 3, 20 },
		{ GMEM_GPA2 + (NR_PAGES - 1) * PAGE_SIZE, NR_PAGES - 1, 1 },
		{ GMEM_GPA2, NR_PAGES - 1, 1 },
		{ GMEM_GPA2, 0, NR_PAGES },
	};
	u64 state = 0;
	u8 *mem;
	int fd, i, j;

	fd = create_filled(self->vm, variant->flags, &mem);

	for (i = 0; i < ARRAY_SIZE(layouts); i++) {
		const int first = layouts[i].first, nr = layouts[i].nr;
		const gpa_t gpa = layouts[i].gpa;

		/* Convert all of the file to another state while nothing is bound, */
		state = ALL_PAGES & ~state;
		state ^= MIXED << i;
		set_state(fd, state);
		check_state(mem, state);

		ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, gpa, nr, fd, first));
		check_state(mem, state);
		__guest_check(self->vcpu, gpa, first, nr, 1);

		/* and while a memslot is. */
		state ^= pages(first, (nr + 1) / 2);
		set_state(fd, state);
		__guest_check(self->vcpu, gpa, first, nr, 1);
		check_state(mem, state);

		gmem_delete_slot(self->vm, GMEM_SLOT2);
		check_state(mem, state);
		for (j = 0; j < nr; j += max(nr - 1, 1))
			guest_read_mmio(self->vcpu, gpa + j * PAGE_SIZE);
	}

	to_shared(fd, 0, NR_PAGES);
	host_check(mem, 0, NR_PAGES, 1);
	free_gmem(fd, mem);
}

/*
 * C18, C25: Try to change memslots with guest_memfd, which KVM refuses, and verify
 * that they are as they were.
 */
TEST_F(gmem, change_memslot)
{
	const u32 flags = KVM_MEM_GUEST_MEMFD;
	struct kvm_vm *vm = self->vm;
	int fd, other_fd, i, round;
	u8 *mem, *other_mem;

#define CHANGE(flags, gpa, size, hva, fd, offset)					\
	__vm_set_user_memory_region2(vm, GMEM_SLOT2, flags, gpa, size, hva, fd, offset)
#define ASSERT_REFUSED(args...)								\
do {											\
	ASSERT_EQ(-1, CHANGE(args));							\
	ASSERT_EQ(EINVAL, errno);							\
} while (0)

	fd = create_filled(vm, variant->flags, &mem);
	other_fd = create_filled(vm, variant->flags, &other_mem);
	ASSERT_EQ(0, gmem_add_slot(vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0));

	for (round = 0; round < 2; round++) {
		set_state(fd, MIXED);
		__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

		/* To another address, size, offset or file, or to where it is. */
		ASSERT_REFUSED(flags, GMEM_GPA2 + SZ_2M, GMEM_SIZE, NULL, fd, 0);
		ASSERT_REFUSED(flags, GMEM_GPA2 + PAGE_SIZE, GMEM_SIZE, NULL, fd, 0);
		ASSERT_REFUSED(flags, GMEM_GPA2, GMEM_SIZE / 2, NULL, fd, 0);
		ASSERT_REFUSED(flags, GMEM_GPA2, GMEM_SIZE / 2, NULL, fd, GMEM_SIZE / 2);
		ASSERT_REFUSED(flags, GMEM_GPA2, GMEM_SIZE, NULL, other_fd, 0);
		ASSERT_REFUSED(flags, GMEM_GPA2, GMEM_SIZE, NULL, fd, 0);

		/* With flags that it can't have, or without the one that it needs. */
		ASSERT_REFUSED(flags | KVM_MEM_LOG_DIRTY_PAGES, GMEM_GPA2, GMEM_SIZE, NULL, fd, 0);
		ASSERT_REFUSED(flags | KVM_MEM_READONLY, GMEM_GPA2, GMEM_SIZE, NULL, fd, 0);
		ASSERT_REFUSED(0, GMEM_GPA2, GMEM_SIZE, NULL, 0, 0);
		ASSERT_REFUSED(0, GMEM_GPA2 + SZ_2M, GMEM_SIZE, NULL, 0, 0);
		ASSERT_REFUSED(0, GMEM_GPA2, GMEM_SIZE, mem, 0, 0);

		for (i = 0; i < NR_PAGES; i++)
			ASSERT_EQ(0, faults(self->vcpu, GMEM_GPA2 + i * PAGE_SIZE, i));
		check_state(mem, MIXED);

		/* It's still known to the guest_memfd, too. */
		to_private(fd, 8, 2);
		ASSERT_EQ(1, faults(self->vcpu, GMEM_GPA2 + 8 * PAGE_SIZE, 8));
		ASSERT_EQ(0, faults(self->vcpu, GMEM_GPA2 + 10 * PAGE_SIZE, 10));
	}

	/*
	 * What can't be changed can be deleted and created.  To be at another
	 * address, private pages have to be shared in between, at least where
	 * the hardware knows where they are.
	 */
	gmem_delete_slot(vm, GMEM_SLOT2);
	set_state(fd, ~MIXED);
	ASSERT_EQ(0, gmem_add_slot(vm, GMEM_SLOT2, GMEM_GPA2 + PAGE_SIZE, NR_PAGES - 1, fd, 0));
	guest_read_mmio(self->vcpu, GMEM_GPA2);
	__guest_check(self->vcpu, GMEM_GPA2 + PAGE_SIZE, 0, NR_PAGES - 1, 1);

	gmem_delete_slot(vm, GMEM_SLOT2);
	free_gmem(other_fd, other_mem);
	free_gmem(fd, mem);
}

/* C18, C22: Create memslots with flags that guest_memfd can't have: refused, as in 7.3. */
TEST_F(gmem, memslot_flags)
{
	const u32 flags[] = {
		KVM_MEM_READONLY,
		KVM_MEM_LOG_DIRTY_PAGES,
		KVM_MEM_READONLY | KVM_MEM_LOG_DIRTY_PAGES,
		BIT(31),
	};
	struct kvm_vm *vm = self->vm;
	int fd, i;
	u8 *mem;

	fd = create_filled(vm, variant->flags, &mem);
	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		ASSERT_REFUSED(KVM_MEM_GUEST_MEMFD | flags[i], GMEM_GPA2, GMEM_SIZE, mem, fd, 0);
		ASSERT_REFUSED(KVM_MEM_GUEST_MEMFD | flags[i], GMEM_GPA2, GMEM_SIZE, NULL, fd, 0);
	}

	/* The file hasn't been bound by that. */
	guest_read_mmio(self->vcpu, GMEM_GPA2);
	ASSERT_EQ(0, gmem_add_slot(vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0));
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	gmem_delete_slot(vm, GMEM_SLOT2);
	free_gmem(fd, mem);
}

/*
 * C7, C18: Convert across memslots with guest_memfd and plain ones in turn: the
 * guest doesn't lose its mappings of plain memory.
 */
TEST_F(gmem, plain_neighbors)
{
	/* Which pages are plain memory, at the same offset as in the file. */
	const u64 plain = pages(0, 1) | pages(5, 1) | pages(8, 8) | pages(40, 1) | pages(42, 2) |
			  pages(60, 4);
	static const struct {
		int first, nr;
	} ranges[] = {
		{ 0, NR_PAGES }, { 4, 3 }, { 5, 1 }, { 7, 10 }, { 8, 8 }, { 39, 5 }, { 59, 2 },
	};
	u8 *mem, *plain_mem;
	int fd, i, j, nr;
	bool private;
	u64 mappings;

	fd = create_filled(self->vm, variant->flags, &mem);
	plain_mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	host_fill(plain_mem, 0, NR_PAGES, 1);

	for (i = 0; i < NR_PAGES; i += nr) {
		for (nr = 1; i + nr < NR_PAGES; nr++)
			if (!(plain & BIT_ULL(i)) != !(plain & BIT_ULL(i + nr)))
				break;

		if (plain & BIT_ULL(i))
			vm_set_user_memory_region(self->vm, GMEM_SLOT2 + i, 0,
						  GMEM_GPA2 + i * PAGE_SIZE, nr * PAGE_SIZE,
						  page_hva(plain_mem, i));
		else
			ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2 + i,
						   GMEM_GPA2 + i * PAGE_SIZE, nr, fd, i));
	}

	for (i = 0; i < 2 * ARRAY_SIZE(ranges); i++) {
		const int first = ranges[i / 2].first, last = first + ranges[i / 2].nr;

		private = i & 1;
		set_state(fd, private ? 0 : ALL_PAGES);
		__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
		mappings = guest_mappings(self->vcpu);

		if (private)
			to_private(fd, first, last - first);
		else
			to_shared(fd, first, last - first);
		check_state(mem, private ? pages(first, last - first) :
					   ALL_PAGES & ~pages(first, last - first));
		ASSERT_EQ(mappings - __builtin_popcountll(pages(first, last - first) & ~plain),
			  guest_mappings(self->vcpu));
		for (j = 0; j < NR_PAGES; j++)
			if (j < first || j >= last || plain & BIT_ULL(j))
				ASSERT_EQ(0, faults(self->vcpu, GMEM_GPA2 + j * PAGE_SIZE, j))
					TH_LOG("range %d, page %d", i, j);
	}

	/* Where the guest has plain memory, the file has pages that are nobody's. */
	to_shared(fd, 0, NR_PAGES);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 2);
	for (i = 0; i < NR_PAGES; i++) {
		host_check(mem, i, 1, plain & BIT_ULL(i) ? 1 : 2);
		host_check(plain_mem, i, 1, plain & BIT_ULL(i) ? 2 : 1);
	}

	for (i = 0; i < NR_PAGES; i++)
		if (!i || !(plain & BIT_ULL(i)) != !(plain & BIT_ULL(i - 1)))
			gmem_delete_slot(self->vm, GMEM_SLOT2 + i);
	kvm_munmap(plain_mem, GMEM_SIZE);
	free_gmem(fd, mem);
}

/*
 * C18, C25: Try to have a page at two addresses of a guest, or in two guests, which
 * KVM refuses: a conversion would have to find all of them.
 */
TEST_F(gmem, no_alias)
{
	const gpa_t gpa = GMEM_GPA2, gpa2 = GMEM_GPA2 + SZ_2M;
	struct kvm_vm *vm = self->vm, *other_vm;
	char path[32];
	int fd, dup_fd;
	u8 *mem;

	fd = create_filled(vm, variant->flags, &mem);
	dup_fd = kvm_dup(fd);
	ASSERT_EQ(0, gmem_add_slot(vm, GMEM_SLOT2, gpa, 20, fd, 20));
	set_state(fd, MIXED);
	__guest_check(self->vcpu, gpa, 20, 20, 1);

	/* The same pages, all around them, within, and over each end. */
	ASSERT_EQ(EEXIST, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 20, fd, 20));
	ASSERT_EQ(EEXIST, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, NR_PAGES, fd, 0));
	ASSERT_EQ(EEXIST, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 1, fd, 30));
	ASSERT_EQ(EEXIST, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 11, fd, 10));
	ASSERT_EQ(EEXIST, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 10, fd, 39));

	/* Nor by another descriptor, file or VM. */
	ASSERT_EQ(EEXIST, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 20, dup_fd, 20));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ASSERT_EQ(-1, open(path, O_RDWR));
	ASSERT_EQ(ENXIO, errno);
	other_vm = ____vm_create(in_place_shape);
	ASSERT_EQ(EINVAL, gmem_add_slot(other_vm, 0, gpa, 20, fd, 40));

	/* Beyond the end of the file. */
	ASSERT_EQ(EINVAL, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 1, fd, NR_PAGES));
	ASSERT_EQ(EINVAL, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 2, fd, NR_PAGES - 1));
	ASSERT_EQ(EINVAL, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 2, fd, -1));

	/* The existing memslot is as it was. */
	to_private(fd, 19, 22);
	__guest_check(self->vcpu, gpa, 20, 20, 1);
	to_shared(fd, 39, 1);
	ASSERT_EQ(1, faults(self->vcpu, gpa + 19 * PAGE_SIZE, 39));
	ASSERT_EQ(0, faults(self->vcpu, gpa + 18 * PAGE_SIZE, 38));

	/* Pages next to each other aren't aliases. */
	ASSERT_EQ(0, gmem_add_slot(vm, GMEM_SLOT2 + 1, gpa2, 20, fd, 0));
	ASSERT_EQ(0, gmem_add_slot(vm, GMEM_SLOT2 + 2, gpa2 + SZ_2M, 1, fd, 40));
	to_shared(fd, 0, NR_PAGES);
	__guest_check(self->vcpu, gpa, 20, 20, 1);

	kvm_vm_free(other_vm);
	kvm_close(dup_fd);
	free_gmem(fd, mem);
}

/* C18: Convert one of two guest_memfds, and verify that the other isn't affected. */
TEST_F(gmem, two_guest_memfds)
{
	int fds[2], i, j, k;
	u8 *mem[2];

	/* Page by page, at consecutive addresses and the same offsets. */
	for (i = 0; i < 2; i++)
		fds[i] = create_filled(self->vm, variant->flags, &mem[i]);
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2 + i, GMEM_GPA2 + i * PAGE_SIZE,
					   1, fds[i & 1], i));

	for (i = 0; i < 4; i++) {
		j = i & 1;
		__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
		if (i < 2)
			to_private(fds[j], 7, 50);
		else
			to_shared(fds[j], 7, 50);

		for (k = 0; k < NR_PAGES; k++)
			ASSERT_EQ((k & 1) == j && k >= 7 && k < 57,
				  faults(self->vcpu, GMEM_GPA2 + k * PAGE_SIZE, k))
				TH_LOG("step %d, page %d", i, k);

		/* To private: 0, 1.  To shared: 0, 1. */
		check_state(mem[0], i < 2 ? pages(7, 50) : 0);
		check_state(mem[1], i == 1 || i == 2 ? pages(7, 50) : 0);
	}

	/* Close one, and verify that the other's pages stay. */
	set_state(fds[0], MIXED);
	free_gmem(fds[1], mem[1]);
	for (i = 0; i < 4; i += 2) {
		__guest_check(self->vcpu, GMEM_GPA2 + i * PAGE_SIZE, i, 1, 1);
		guest_read_closed(self->vcpu, GMEM_GPA2 + (i + 1) * PAGE_SIZE);
	}
	to_private(fds[0], 0, NR_PAGES);
	__guest_check(self->vcpu, GMEM_GPA2, 0, 1, 1);
	free_gmem(fds[0], mem[0]);
}

/* C18: Convert the memory of a VM whose only memory is a guest_memfd. */
TEST_F(gmem, nothing_but_guest_memfd)
{
	struct kvm_vm *vm;
	u8 *mem;
	int fd;

	vm = ____vm_create(in_place_shape);
	fd = vm_create_guest_memfd(vm, GMEM_SIZE, variant->flags);
	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	check_state(mem, variant->init_state);

	to_shared(fd, 0, NR_PAGES);
	host_fill(mem, 0, NR_PAGES, 1);
	set_state(fd, MIXED);
	check_state(mem, MIXED);
	kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      8 * PAGE_SIZE, 20 * PAGE_SIZE);
	check_state(mem, MIXED);
	to_shared(fd, 0, NR_PAGES);
	host_check(mem, 0, 8, 1);
	ASSERT_EQ(0, host_read(mem, 27));
	host_check(mem, 28, NR_PAGES - 28, 1);

	free_gmem(fd, mem);
	kvm_vm_free(vm);
}

/* This thread's own time, others may want the CPU as well. */
static s64 thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return timespec_to_ns(now);
}

/* Convert, and verify that it doesn't take long, however large the range is. */
static void convert_huge(int fd, u64 offset, u64 size, u64 attributes)
{
	s64 start = thread_ns(), ns;

	gmem_set_memory_attributes(fd, offset, size, attributes);
	ns = thread_ns() - start;
	TEST_ASSERT(ns < NSEC_PER_SEC / 2, "[0x%lx, 0x%lx) took %ld ns",
		    offset, offset + size, ns);
}

/* Convert a file of @size that was never touched, and look at its last pages. */
static void test_huge(struct gmem_vm *gmem, u64 size, u64 flags)
{
	const u64 mid = size / 2 / SZ_2M * SZ_2M, tail = size - GMEM_SIZE;
	struct kvm_vcpu *vcpu = gmem->vcpu;
	const int last = NR_PAGES - 1;
	u8 *mem, *mid_mem;
	int fd;

	fd = vm_create_guest_memfd(gmem->vm, size, flags);
	mem = __kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, tail);
	mid_mem = __kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, mid);
	TEST_ASSERT_EQ(gmem_add_slot(gmem->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd,
				     tail / PAGE_SIZE), 0);

	convert_huge(fd, 0, size, PRIVATE);
	convert_huge(fd, 0, size, 0);
	convert_huge(fd, mid + PAGE_SIZE, GMEM_SIZE, PRIVATE);
	convert_huge(fd, 0, size - PAGE_SIZE, PRIVATE);
	convert_huge(fd, size - PAGE_SIZE, PAGE_SIZE, PRIVATE);
	convert_huge(fd, 0, mid, 0);
	convert_huge(fd, mid + 2 * PAGE_SIZE, size - mid - 3 * PAGE_SIZE, 0);
	TEST_ASSERT_EQ(nr_allocated(fd, mem, GMEM_SIZE), 0);

	/* The first two pages of the upper half are private, and the last page is. */
	TEST_ASSERT_EQ(read_raises_sigbus(mid_mem), true);
	TEST_ASSERT_EQ(read_raises_sigbus(mid_mem + PAGE_SIZE), true);
	TEST_ASSERT_EQ(read_raises_sigbus(mid_mem + 2 * PAGE_SIZE), false);
	check_state(mem, pages(last, 1));
	TEST_ASSERT_EQ(nr_allocated(fd, mem, GMEM_SIZE), 1 + last);

	/* The guest has it, and what it leaves there can be shared. */
	__guest_fill(vcpu, GMEM_GPA2 + last * PAGE_SIZE, last, 1, 1);
	TEST_ASSERT_EQ(nr_allocated(fd, mem, GMEM_SIZE), 1 + NR_PAGES);
	convert_huge(fd, 0, size, 0);
	check_state(mem, 0);
	host_check(mem, last, 1, 1);
	convert_huge(fd, 0, size, PRIVATE);
	check_state(mem, ALL_PAGES);
	__guest_check(vcpu, GMEM_GPA2 + last * PAGE_SIZE, last, 1, 1);

	kvm_munmap(mid_mem, GMEM_SIZE);
	kvm_munmap(mem, GMEM_SIZE);
	gmem_delete_slot(gmem->vm, GMEM_SLOT2);
	kvm_close(fd);
}

/* C11, C25: Convert large files, and verify that it takes as long as for small ones. */
TEST_F(gmem, huge)
{
	struct gmem_vm gmem = { .vm = self->vm, .vcpu = self->vcpu };

	test_huge(&gmem, BIT_ULL(40), variant->flags);
	test_huge(&gmem, BIT_ULL(48), variant->flags);

	/* As large as a file can be. */
	test_huge(&gmem, BIT_ULL(63) - PAGE_SIZE, variant->flags);
	ASSERT_EQ(-1, __vm_create_guest_memfd(self->vm, BIT_ULL(63), variant->flags));
	ASSERT_EQ(EINVAL, errno);
}

/*
 * C11, C12, C25: Convert and punch a file of 256 TiB, of which a VMM binds what the
 * guest has: time and memory depend on what is there, not on the size.
 */
TEST_F(gmem, address_space)
{
	/* Far from the first and the last pages, and from what the library has. */
	const u64 size = BIT_ULL(48), offset = BIT_ULL(47) - SZ_2M, slot_size = BIT_ULL(38);
	const gpa_t gpa = slot_size;
	s64 start;
	u8 *mem;
	int fd, i;

	fd = vm_create_guest_memfd(self->vm, size, variant->flags);
	mem = __kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	ASSERT_EQ(variant->init_state & 1, read_raises_sigbus(mem));
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, gpa, slot_size / PAGE_SIZE, fd,
				   offset / PAGE_SIZE));
	virt_map(self->vm, gpa, gpa, NR_PAGES);

	convert_huge(fd, 0, size, PRIVATE);
	check_state(mem, ALL_PAGES);
	__guest_fill(self->vcpu, gpa, 0, NR_PAGES, 1);
	convert_huge(fd, 0, size, 0);
	host_check(mem, 0, NR_PAGES, 1);

	/* Alternate, and convert all of it from there. */
	for (i = 0; i < NR_PAGES; i += 2)
		gmem_set_private(fd, offset + i * PAGE_SIZE, PAGE_SIZE);
	check_state(mem, 0x5555555555555555ul);
	__guest_check(self->vcpu, gpa, 0, NR_PAGES, 1);
	convert_huge(fd, 0, size, PRIVATE);
	for (i = 0; i < NR_PAGES; i += 2)
		gmem_set_shared(fd, offset + i * PAGE_SIZE, PAGE_SIZE);
	check_state(mem, 0xaaaaaaaaaaaaaaaaul);
	__guest_check(self->vcpu, gpa, 0, NR_PAGES, 1);

	/* Punch out all of it: the pages go, and their states stay. */
	start = thread_ns();
	kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size);
	ASSERT_LT(thread_ns() - start, NSEC_PER_SEC / 2);
	ASSERT_EQ(0, nr_allocated(fd, mem, GMEM_SIZE));
	check_state(mem, 0xaaaaaaaaaaaaaaaaul);
	ASSERT_EQ(0, guest_read(self->vcpu, gpa));
	ASSERT_EQ(0, guest_read(self->vcpu, gpa + PAGE_SIZE));

	gmem_delete_slot(self->vm, GMEM_SLOT2);
	guest_read_mmio(self->vcpu, gpa);
	convert_huge(fd, 0, size, 0);
	check_state(mem, 0);
	free_gmem(fd, mem);
}

/* C4, C18: Convert a file of one page. */
TEST_F(gmem, tiny)
{
	u64 error_offset = NO_ERROR_OFFSET;
	u8 *mem;
	int fd;

	fd = vm_create_guest_memfd(self->vm, PAGE_SIZE, variant->flags);
	mem = kvm_mmap(PAGE_SIZE * 2, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, GMEM_GPA2, 1, fd, 0));
	ASSERT_EQ(variant->init_state & 1, read_raises_sigbus(mem));

	to_shared(fd, 0, 1);
	host_fill(mem, 0, 1, 1);
	to_private(fd, 0, 1);
	ASSERT_TRUE(read_raises_sigbus(mem));
	__guest_check(self->vcpu, GMEM_GPA2, 0, 1, 1);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, 1, 2);
	to_shared(fd, 0, 1);
	host_check(mem, 0, 1, 2);

	/* Convert, map and read what is past the end. */
	ASSERT_EQ(-1, __gmem_set_memory_attributes(fd, 0, 2 * PAGE_SIZE, PRIVATE, &error_offset));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_EQ(-1, __gmem_set_memory_attributes(fd, PAGE_SIZE, PAGE_SIZE, 0, &error_offset));
	ASSERT_EQ(EINVAL, errno);
	ASSERT_FALSE(read_raises_sigbus(mem));
	ASSERT_TRUE(read_raises_sigbus(mem + PAGE_SIZE));
	guest_read_mmio(self->vcpu, GMEM_GPA2 + PAGE_SIZE);

	kvm_munmap(mem, PAGE_SIZE * 2);
	kvm_close(fd);
}

/* C16: Read where a memslot was: it's MMIO. */
TEST_F(gmem, no_memslot)
{
	gpa_t gpa = page_gpa(3);

	set_state(self->fd, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 1);

	guest_read_mmio(self->vcpu, GMEM_GPA2);

	vm_mem_region_delete(self->vm, GMEM_SLOT);
	guest_read_mmio(self->vcpu, gpa);
	guest_read_mmio(self->vcpu, page_gpa(10));
}

/* C15, C16: Read where there was no memslot, after one with memory of either state came. */
TEST_F(gmem, memslot_after_mmio)
{
	u8 *mem;
	int fd;

	fd = create_filled(self->vm, variant->flags, &mem);
	set_state(fd, variant->init_state);

	guest_read_mmio(self->vcpu, GMEM_GPA2);
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0));
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	gmem_delete_slot(self->vm, GMEM_SLOT2);
	guest_read_mmio(self->vcpu, GMEM_GPA2);
	set_state(fd, ~variant->init_state);
	ASSERT_EQ(0, gmem_add_slot(self->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0));
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	gmem_delete_slot(self->vm, GMEM_SLOT2);
	free_gmem(fd, mem);
}

/* C16: Read pages of either state whose file is closed: KVM_RUN fails. */
TEST_F(gmem, closed)
{
	int fd;

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, variant->flags);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   GMEM_GPA2, GMEM_SIZE, NULL, fd, 0);
	gmem_set_private(fd, 0, GMEM_SIZE / 2);
	gmem_set_shared(fd, GMEM_SIZE / 2, GMEM_SIZE / 2);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	/* Not mapped anywhere, i.e. this is the end of it. */
	kvm_close(fd);
	guest_read_closed(self->vcpu, GMEM_GPA2);
	guest_read_closed(self->vcpu, GMEM_GPA2 + GMEM_SIZE / 2);
	guest_read_closed(self->vcpu, GMEM_GPA2 + GMEM_SIZE - PAGE_SIZE);

	/* A memslot is what makes the difference. */
	gmem_delete_slot(self->vm, GMEM_SLOT2);
	guest_read_mmio(self->vcpu, GMEM_GPA2);
	guest_read_mmio(self->vcpu, GMEM_GPA2 + GMEM_SIZE / 2);
}

/* C21: Use a memslot with other memory at userspace_addr, and a file without mmap(). */
TEST_F(gmem, no_second_backing)
{
	const u64 flags = variant->flags & ~GUEST_MEMFD_FLAG_MMAP;
	u8 *mem;
	int fd;

	mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	host_fill(mem, 0, NR_PAGES, 3);

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, flags);
	ASSERT_EQ(MAP_FAILED, mmap(NULL, GMEM_SIZE, PROT_READ, MAP_SHARED, fd, 0));
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   GMEM_GPA2, GMEM_SIZE, mem, fd, 0);

	ASSERT_EQ(0, guest_read(self->vcpu, GMEM_GPA2));
	gmem_set_private(fd, 0, GMEM_SIZE);
	ASSERT_EQ(0, guest_read(self->vcpu, GMEM_GPA2));
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	gmem_set_shared(fd, 0, GMEM_SIZE);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 2);
	gmem_set_private(fd, 0, GMEM_SIZE);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 2);

	host_check(mem, 0, NR_PAGES, 3);

	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD,
				   GMEM_GPA2, 0, mem, fd, 0);
	kvm_close(fd);
	kvm_munmap(mem, GMEM_SIZE);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
