// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what only matters to hardware that protects guests: that guest_memfd's
 * pages are handed to the guest and back exactly when they change sides, and
 * that a guest's initial memory can be populated in place.
 *
 * Needs a kernel with CONFIG_KVM_PROVE_GMEM, which plays the hardware's part for
 * software-protected VMs: it counts the pages that are made private and shared,
 * and takes those that are private out of the host's direct map, i.e. the kernel
 * can't access one that KVM has failed to make shared again.  A page is made
 * private when the guest first uses it as such, not when it's converted.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#include <linux/falloc.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

static int nr_pages(u64 state)
{
	return __builtin_popcountll(state);
}

static u64 nr_made_private(struct kvm_vm *vm)
{
	return vm_get_stat(vm, gmem_pages_made_private);
}

static u64 nr_made_shared(struct kvm_vm *vm)
{
	return vm_get_stat(vm, gmem_pages_made_shared);
}

/*
 * Read pages as the kernel does on behalf of somebody else, i.e. by the direct
 * map.  An access by the test itself would use only the test's mapping.
 */
static void kernel_check(u8 *mem, int first, int nr, int generation)
{
	u8 *buf = kvm_mmap(nr * PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct iovec local = { buf, nr * PAGE_SIZE };
	struct iovec remote = { page_hva(mem, first), nr * PAGE_SIZE };

	TEST_ASSERT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0),
		       nr * PAGE_SIZE);
	host_check(buf - first * PAGE_SIZE, first, nr, generation);
	kvm_munmap(buf, nr * PAGE_SIZE);
}

static bool is_zero(u8 *mem, int first, int nr)
{
	u64 *word = (u64 *)page_hva(mem, first);
	int i;

	for (i = 0; i < nr * WORDS_PER_PAGE; i++) {
		if (READ_ONCE(word[i]))
			return false;
	}

	return true;
}

FIXTURE(gmem) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
	int populate_fd;

	/* What has been counted so far, see EXPECT_HOOKS(). */
	u64 nr_private;
	u64 nr_shared;
};

FIXTURE_SETUP(gmem)
{
	struct gmem_vm gmem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	self->vcpu = gmem.vcpu;
	self->vm = gmem.vm;
	self->mem = gmem.mem;
	self->fd = gmem.fd;

	self->populate_fd = open_populate(self->vm);
	ASSERT_LE(0, self->populate_fd);

	self->nr_private = nr_made_private(self->vm);
	self->nr_shared = nr_made_shared(self->vm);
	ASSERT_EQ(0, self->nr_private);
	ASSERT_EQ(0, self->nr_shared);
}

FIXTURE_TEARDOWN(gmem)
{
	kvm_close(self->populate_fd);
	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

/* Verify how many pages were made private and shared since the last time. */
#define EXPECT_HOOKS(nr_private_, nr_shared_)					\
do {										\
	EXPECT_EQ(nr_private_, nr_made_private(self->vm) - self->nr_private);	\
	EXPECT_EQ(nr_shared_, nr_made_shared(self->vm) - self->nr_shared);	\
	self->nr_private = nr_made_private(self->vm);				\
	self->nr_shared = nr_made_shared(self->vm);				\
} while (0)

/* C10: Verify that every page is handed over once in each direction, with its contents. */
TEST_F(gmem, convert)
{
	host_fill(self->mem, 0, NR_PAGES, 1);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(0, 0);

	to_private(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, 0);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(NR_PAGES, 0);
	guest_fill(self->vcpu, 0, NR_PAGES, 2);
	EXPECT_HOOKS(0, 0);

	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, NR_PAGES);
	kernel_check(self->mem, 0, NR_PAGES, 2);
	guest_check(self->vcpu, 0, NR_PAGES, 2);
	EXPECT_HOOKS(0, 0);

	to_private(self->fd, 0, NR_PAGES);
	guest_check(self->vcpu, 0, NR_PAGES, 2);
	EXPECT_HOOKS(NR_PAGES, 0);
}

/* C7: Verify that pages that have the attribute already aren't handed over, or back. */
TEST_F(gmem, unchanged)
{
	const int nr_mixed = nr_pages(MIXED);

	host_fill(self->mem, 0, NR_PAGES, 1);
	set_state(self->fd, MIXED);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(nr_mixed, 0);

	/* All of the range has it. */
	to_private(self->fd, 20, 20);
	to_shared(self->fd, 8, 12);
	EXPECT_EQ(0, guest_faults(self->vcpu, 0, NR_PAGES));
	EXPECT_HOOKS(0, 0);

	/* Some of the range has it: the guest doesn't fault there. */
	to_private(self->fd, 0, NR_PAGES);
	EXPECT_EQ(NR_PAGES - nr_mixed, guest_faults(self->vcpu, 0, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES - nr_mixed, 0);

	set_state(self->fd, MIXED);
	EXPECT_HOOKS(0, NR_PAGES);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(nr_mixed, 0);
	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, nr_mixed);
	kernel_check(self->mem, 0, NR_PAGES, 1);
}

/* C7: Verify that a page that was private, but never the guest's, isn't handed back. */
TEST_F(gmem, untouched)
{
	/* Some of the pages exist, all of them are private. */
	host_fill(self->mem, 0, NR_PAGES / 2, 1);
	to_private(self->fd, 0, NR_PAGES);
	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, 0);

	to_private(self->fd, 0, NR_PAGES);
	guest_check(self->vcpu, 3, 1, 1);
	EXPECT_HOOKS(1, 0);
	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, 1);
	kernel_check(self->mem, 0, NR_PAGES / 2, 1);
}

/* C5: Verify that a conversion that fails hands nothing over. */
TEST_F(gmem, failure)
{
	u8 buf[PAGE_SIZE];
	u64 error_page;
	int fds[2];

	host_fill(self->mem, 0, NR_PAGES, 1);
	to_private(self->fd, 0, 8);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(8, 0);

	ASSERT_EQ(PAGE_SIZE, splice_page(fds, page_hva(self->mem, 12)));
	EXPECT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	EXPECT_EQ(12, error_page);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(0, 0);
	kernel_check(self->mem, 8, NR_PAGES - 8, 1);

	unsplice_page(fds, buf);
	to_private(self->fd, 0, NR_PAGES);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(NR_PAGES - 8, 0);
}

/* C12: Verify that pages that are punched out are handed back if they were the guest's. */
TEST_F(gmem, punch_hole)
{
	const int keep_size = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE;
	const u64 punched = pages(10, 40);

	set_state(self->fd, MIXED);
	guest_fill(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(nr_pages(MIXED), 0);

	kvm_fallocate(self->fd, keep_size, 10 * PAGE_SIZE, 40 * PAGE_SIZE);
	EXPECT_HOOKS(0, nr_pages(MIXED & punched));

	/* No page is left to hand back. */
	kvm_fallocate(self->fd, keep_size, 10 * PAGE_SIZE, 40 * PAGE_SIZE);
	EXPECT_HOOKS(0, 0);

	check_state(self->mem, MIXED);
	guest_fill(self->vcpu, 10, 40, 2);
	EXPECT_HOOKS(nr_pages(MIXED & punched), 0);

	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, nr_pages(MIXED));
	kernel_check(self->mem, 10, 40, 2);
	kernel_check(self->mem, 50, NR_PAGES - 50, 1);
}

/* C12, C16: pages are the guest's without a memslot, too, but not without a file. */
TEST_F(gmem, close)
{
	const u64 flags = KVM_MEM_GUEST_MEMFD;
	int fd;

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, GUEST_MEMFD_FLAG_MMAP);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, flags, GMEM_GPA2, GMEM_SIZE,
				   self->mem, fd, 0);
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	EXPECT_HOOKS(NR_PAGES, 0);

	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, flags, GMEM_GPA2, 0, NULL, fd, 0);
	EXPECT_HOOKS(0, 0);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, flags, GMEM_GPA2, GMEM_SIZE,
				   self->mem, fd, 0);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	EXPECT_HOOKS(0, 0);

	kvm_close(fd);
	EXPECT_HOOKS(0, NR_PAGES);
	guest_read_closed(self->vcpu, GMEM_GPA2);
	EXPECT_HOOKS(0, 0);
}

/* C23: Populate pages from a buffer, as in VM mode. */
TEST_F(gmem, populate_from_source)
{
	u8 *src = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);

	/* Pages that exist, and that have been written to, and pages that don't. */
	host_fill(self->mem, 0, NR_PAGES / 2, 1);
	to_private(self->fd, 0, NR_PAGES);

	host_fill(src, 0, NR_PAGES, 2);
	EXPECT_EQ(0, populate(self->populate_fd, 0, src, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES, 0);
	host_check(src, 0, NR_PAGES, 2);

	check_state(self->mem, ALL_PAGES);
	guest_check(self->vcpu, 0, NR_PAGES, 2);
	EXPECT_HOOKS(0, 0);

	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, NR_PAGES);
	kernel_check(self->mem, 0, NR_PAGES, 2);

	kvm_munmap(src, GMEM_SIZE);
}

/* C23: Populate pages with what was written while they were shared. */
TEST_F(gmem, populate_in_place)
{
	host_fill(self->mem, 0, NR_PAGES, 1);
	to_private(self->fd, 0, NR_PAGES);

	EXPECT_EQ(0, populate(self->populate_fd, 0, NULL, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES, 0);

	check_state(self->mem, ALL_PAGES);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(0, 0);

	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_HOOKS(0, NR_PAGES);
	kernel_check(self->mem, 0, NR_PAGES, 1);
}

/* C11, C12, C23: Populate pages that were never written, or punched out, with zeroes. */
TEST_F(gmem, populate_never_written)
{
	int i;

	/* Absent pages, allocated ones, ones that replace what was there. */
	kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, 16 * PAGE_SIZE, 16 * PAGE_SIZE);
	host_fill(self->mem, 32, 32, 1);
	kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
		      32 * PAGE_SIZE, 32 * PAGE_SIZE);
	to_private(self->fd, 0, NR_PAGES);

	dirty_free_pages();
	EXPECT_EQ(0, populate(self->populate_fd, 0, NULL, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES, 0);

	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(0, guest_read(self->vcpu, page_gpa(i)));

	/* The guest has seen one word of each page, see all of them. */
	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_TRUE(is_zero(self->mem, 0, NR_PAGES));
}

/* C23: Try to populate shared pages, from a buffer and in place. */
TEST_F(gmem, populate_shared)
{
	u8 *src = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);

	host_fill(src, 0, NR_PAGES, 2);
	host_fill(self->mem, 0, NR_PAGES, 1);

	EXPECT_EQ(EINVAL, populate(self->populate_fd, 0, NULL, NR_PAGES));
	EXPECT_EQ(EINVAL, populate(self->populate_fd, 0, src, NR_PAGES));
	EXPECT_HOOKS(0, 0);
	kernel_check(self->mem, 0, NR_PAGES, 1);
	guest_check(self->vcpu, 0, NR_PAGES, 1);

	kvm_munmap(src, GMEM_SIZE);
}

/* C23: Populate ranges that end in pages that can't be populated, or in none. */
TEST_F(gmem, populate_mixed)
{
	host_fill(self->mem, 0, NR_PAGES, 1);
	set_state(self->fd, pages(0, 4) | pages(5, 3) | pages(60, 4));

	EXPECT_EQ(0, populate(self->populate_fd, 0, NULL, 8));
	EXPECT_HOOKS(4, 0);
	EXPECT_EQ(EINVAL, populate(self->populate_fd, 4, NULL, 4));
	EXPECT_HOOKS(0, 0);
	EXPECT_EQ(0, populate(self->populate_fd, 5, NULL, 3));
	EXPECT_HOOKS(3, 0);

	/* So does the end of the memslot. */
	EXPECT_EQ(0, populate(self->populate_fd, 60, NULL, 8));
	EXPECT_HOOKS(4, 0);

	guest_check(self->vcpu, 0, NR_PAGES, 1);
	EXPECT_HOOKS(0, 0);
}

/* C23: Populate pages that have been populated, or that the guest has already. */
TEST_F(gmem, populate_twice)
{
	host_fill(self->mem, 0, NR_PAGES, 1);
	to_private(self->fd, 0, NR_PAGES);

	guest_fill(self->vcpu, 4, 1, 2);
	EXPECT_HOOKS(1, 0);

	EXPECT_EQ(0, populate(self->populate_fd, 0, NULL, NR_PAGES));
	EXPECT_HOOKS(4, 0);
	EXPECT_EQ(EEXIST, populate(self->populate_fd, 0, NULL, NR_PAGES));
	EXPECT_EQ(EEXIST, populate(self->populate_fd, 4, NULL, NR_PAGES - 4));
	EXPECT_HOOKS(0, 0);

	/* It can be populated again if it was shared in between. */
	to_shared(self->fd, 0, 5);
	EXPECT_HOOKS(0, 5);
	host_fill(self->mem, 0, 5, 3);
	to_private(self->fd, 0, 5);
	EXPECT_EQ(0, populate(self->populate_fd, 0, NULL, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES, 0);

	guest_check(self->vcpu, 0, 5, 3);
	guest_check(self->vcpu, 5, NR_PAGES - 5, 1);
	EXPECT_HOOKS(0, 0);
}

/* C9, C23: Populate pages from private memory, which fails and changes nothing. */
TEST_F(gmem, populate_from_private)
{
	host_fill(self->mem, 0, NR_PAGES, 1);
	to_private(self->fd, 0, 16);

	EXPECT_EQ(EFAULT, populate(self->populate_fd, 0, page_hva(self->mem, 8), 4));
	EXPECT_EQ(EFAULT, populate(self->populate_fd, 0, self->mem, 4));
	EXPECT_HOOKS(0, 0);

	/* A page of the same guest_memfd that is shared is as good as any. */
	EXPECT_EQ(0, populate(self->populate_fd, 0, page_hva(self->mem, 16), 1));
	EXPECT_HOOKS(1, 0);
	__guest_check(self->vcpu, page_gpa(0), 16, 1, 1);
	guest_check(self->vcpu, 1, NR_PAGES - 1, 1);
	EXPECT_HOOKS(15, 0);
}

/* C23: Populate a guest_memfd that can't be mapped, in place and from a buffer. */
TEST_F(gmem, populate_without_mmap)
{
	u8 *src = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd, i;

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, GUEST_MEMFD_FLAG_INIT_SHARED);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD, GMEM_GPA2,
				   GMEM_SIZE, self->mem, fd, 0);

	/* The host can't write the pages, but the guest can, while they're shared. */
	__guest_fill(self->vcpu, GMEM_GPA2, 0, NR_PAGES / 2, 1);
	gmem_set_private(fd, 0, GMEM_SIZE);

	dirty_free_pages();
	EXPECT_EQ(0, __populate(self->populate_fd, GMEM_GPA2, NULL, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES, 0);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES / 2, 1);
	for (i = NR_PAGES / 2; i < NR_PAGES; i++)
		EXPECT_EQ(0, guest_read(self->vcpu, GMEM_GPA2 + i * PAGE_SIZE));
	EXPECT_HOOKS(0, 0);

	gmem_set_shared(fd, 0, GMEM_SIZE);
	EXPECT_HOOKS(0, NR_PAGES);
	EXPECT_EQ(EINVAL, __populate(self->populate_fd, GMEM_GPA2, NULL, NR_PAGES));
	gmem_set_private(fd, 0, GMEM_SIZE);

	host_fill(src, 0, NR_PAGES, 2);
	EXPECT_EQ(0, __populate(self->populate_fd, GMEM_GPA2, src, NR_PAGES));
	EXPECT_HOOKS(NR_PAGES, 0);
	__guest_check(self->vcpu, GMEM_GPA2, 0, NR_PAGES, 2);

	kvm_munmap(src, GMEM_SIZE);
	kvm_close(fd);
}

/* C23: Populate memory that has no guest_memfd, or whose guest_memfd is closed. */
TEST_F(gmem, populate_without_gmem)
{
	int fd;

	EXPECT_EQ(EINVAL, __populate(self->populate_fd, GMEM_GPA2, NULL, 1));
	EXPECT_EQ(EINVAL, __populate(self->populate_fd, GMEM_GPA2, self->mem, 1));

	fd = vm_create_guest_memfd(self->vm, GMEM_SIZE, GUEST_MEMFD_FLAG_MMAP);
	vm_set_user_memory_region2(self->vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD, GMEM_GPA2,
				   GMEM_SIZE, self->mem, fd, 0);
	kvm_close(fd);
	EXPECT_NE(0, __populate(self->populate_fd, GMEM_GPA2, NULL, 1));
	EXPECT_EQ(EFAULT, __populate(self->populate_fd, GMEM_GPA2, self->mem, 1));
	EXPECT_HOOKS(0, 0);
}

struct converter {
	pthread_t thread;
	int fd;
	bool stop;
};

static void *convert_worker(void *arg)
{
	struct converter *converter = arg;

	while (!READ_ONCE(converter->stop)) {
		to_shared(converter->fd, 0, NR_PAGES);
		to_private(converter->fd, 0, NR_PAGES);
	}

	return NULL;
}

/* C10, C23: Populate pages that are converted at the same time. */
TEST_F(gmem, populate_race)
{
	int nr_populated = 0, nr_shared = 0, nr_again = 0, page = 0;
	struct converter converter = { .fd = self->fd };

	host_fill(self->mem, 0, NR_PAGES, 1);
	kvm_pthread_create(&converter.thread, NULL, convert_worker, &converter);

	/* Until all of it has been seen, and then some. */
	while (nr_populated < 64 || nr_shared < 16 || !nr_again) {
		switch (populate(self->populate_fd, page++ % NR_PAGES, NULL, 4)) {
		case 0:
			nr_populated++;
			break;
		case EINVAL:
			nr_shared++;
			break;
		case EEXIST:
			nr_again++;
			break;
		default:
			TEST_FAIL("Unexpected errno %d", errno);
		}
	}

	WRITE_ONCE(converter.stop, true);
	kvm_pthread_join(converter.thread, NULL);

	/* No page stays the guest's, and none has lost its contents. */
	to_shared(self->fd, 0, NR_PAGES);
	EXPECT_LE(nr_populated, nr_made_private(self->vm));
	EXPECT_EQ(nr_made_private(self->vm), nr_made_shared(self->vm));
	kernel_check(self->mem, 0, NR_PAGES, 1);
}

/* C22, C23: Populate pages in VM mode: from a buffer, and not in place. */
TEST(populate_vm_mode)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};
	int fd, populate_fd;
	struct kvm_vm *vm;
	u8 *src;

	if (in_place_is_default())
		SKIP(return, "There's no VM mode if in-place mode is the default");

	vm = ____vm_create(shape);
	populate_fd = open_populate(vm);
	ASSERT_LE(0, populate_fd);

	src = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	fd = vm_create_guest_memfd(vm, GMEM_SIZE, GUEST_MEMFD_FLAG_MMAP);
	vm_set_user_memory_region2(vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD, GMEM_GPA,
				   GMEM_SIZE, src, fd, 0);

	EXPECT_EQ(EINVAL, populate(populate_fd, 0, NULL, 1));
	EXPECT_EQ(EINVAL, populate(populate_fd, 0, src, 1));

	vm_mem_set_private(vm, GMEM_GPA, GMEM_SIZE);
	EXPECT_EQ(EINVAL, populate(populate_fd, 0, NULL, 1));
	EXPECT_EQ(0, populate(populate_fd, 0, src, NR_PAGES));

	/* Pages of a VM in VM mode have no owner. */
	EXPECT_EQ(0, nr_made_private(vm));

	kvm_munmap(src, GMEM_SIZE);
	kvm_close(populate_fd);
	kvm_close(fd);
	kvm_vm_free(vm);
}

int main(int argc, char *argv[])
{
	struct kvm_vm *vm;
	int fd;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	fd = open_populate(vm);
	__TEST_REQUIRE(fd >= 0, "No gmem_populate in debugfs, is CONFIG_KVM_PROVE_GMEM set?");
	kvm_close(fd);
	kvm_vm_free(vm);

	return test_harness_run(argc, argv);
}
