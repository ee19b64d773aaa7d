// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that what the host does to its memory, be it to move it, for errors in it,
 * or for lack of it, leaves the memory of guests alone or fails cleanly, and that
 * nothing of it keeps pages from becoming private.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/falloc.h>
#include <linux/kernel-page-flags.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "numaif.h"
#include "processor.h"
#include "test_util.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

/* As in the kernel, which has it only in a header of its own. */
#define KPF_MLOCKED	33

/* One for what is done to pages, and another one to convert them. */
static int cpu, cpu2;

/*
 * Where a page is in physical memory is known of pages that are mapped, and found
 * for others by being on the LRU and unevictable without being mapped or locked,
 * as nothing but guest_memfd's pages are.
 */
static bool is_unmapped_gmem(u64 flags)
{
	const u64 set = BIT_ULL(KPF_LRU) | BIT_ULL(KPF_UNEVICTABLE);
	const u64 clear = BIT_ULL(KPF_MMAP) | BIT_ULL(KPF_MLOCKED);

	return (flags & (set | clear)) == set;
}

/* Find the first @nr pages that have none of @flags.  They are all there is. */
static void find_gmem_pfns(u64 flags, u64 *pfns, int nr)
{
	int fd = open("/proc/kpageflags", O_RDONLY), i, found = 0;
	u64 words[512], pfn = 0;

	TEST_ASSERT(fd >= 0, "Failed to open /proc/kpageflags");
	while (found < nr && read(fd, words, sizeof(words)) == sizeof(words)) {
		for (i = 0; i < ARRAY_SIZE(words) && found < nr; i++, pfn++) {
			if (is_unmapped_gmem(words[i]) && !(words[i] & flags))
				pfns[found++] = pfn;
		}
	}
	kvm_close(fd);

	TEST_ASSERT_EQ(found, nr);
}

/* Memory of which each page has been written by somebody, as generation 1. */
struct memory {
	struct gmem_vm gmem;
	bool in_place;
	u64 pfns[NR_PAGES];

	/* Between which it is moved. */
	int node, other_node;
};

/* All combinations of these. */
enum writer { GUEST, HOST, POPULATED, NR_WRITERS };
enum place { IN_PRIVATE, IN_SHARED, IN_MAPPED, NR_PLACES };

static enum writer page_writer(int page)
{
	return page % NR_WRITERS;
}

static enum place page_place(int page)
{
	return page / NR_WRITERS % NR_PLACES;
}

static void unmap_page(struct memory *m, int page)
{
	kvm_madvise(page_hva(m->gmem.mem, page), PAGE_SIZE, MADV_DONTNEED);
}

/*
 * Write private memory by a way that needs no fault of the guest's.  Without
 * CONFIG_KVM_PROVE_GMEM, the guest has to write it after all.
 */
static void populate_page(struct memory *m, int populate_fd, int page)
{
	u8 *src;

	if (populate_fd < 0) {
		guest_fill(m->gmem.vcpu, page, 1, 1);
		return;
	}

	src = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	host_fill(src, page, 1, 1);
	TEST_ASSERT_EQ(populate(populate_fd, page, page_hva(src, page), 1), 0);
	kvm_munmap(src, GMEM_SIZE);
}

static void write_in_place(struct memory *m, int populate_fd)
{
	struct gmem_vm *gmem = &m->gmem;
	int page;

	/* Learn where the pages are, while they're all the same. */
	for (page = 0; page < NR_PAGES; page++) {
		host_read(gmem->mem, page);
		m->pfns[page] = mapped_pfn(page_hva(gmem->mem, page));
		unmap_page(m, page);
	}

	for (page = 0; page < NR_PAGES; page++) {
		if (page_writer(page) == HOST)
			host_fill(gmem->mem, page, 1, 1);
		if (page_writer(page) == POPULATED || page_place(page) == IN_PRIVATE)
			to_private(gmem->fd, page, 1);
		if (page_writer(page) == POPULATED)
			populate_page(m, populate_fd, page);
		if (page_writer(page) == GUEST)
			guest_fill(gmem->vcpu, page, 1, 1);

		if (page_place(page) != IN_PRIVATE)
			to_shared(gmem->fd, page, 1);
		if (page_place(page) == IN_MAPPED)
			host_read(gmem->mem, page);
	}

	/* A fault maps shared neighbors, too. */
	for (page = 0; page < NR_PAGES; page++)
		if (page_place(page) == IN_SHARED)
			unmap_page(m, page);
}

/* There's a second backing for what is shared, which is nothing special. */
static void write_vm_mode(struct memory *m, int populate_fd)
{
	struct gmem_vm *gmem = &m->gmem;
	int page;

	for (page = 0; page < NR_PAGES; page++) {
		if (page_writer(page) == HOST) {
			host_fill(gmem->mem, page, 1, 1);
			continue;
		}

		vm_mem_set_private(gmem->vm, page_gpa(page), PAGE_SIZE);
		if (page_writer(page) == POPULATED)
			populate_page(m, populate_fd, page);
		else
			guest_fill(gmem->vcpu, page, 1, 1);
	}
}

static void memory_create(struct memory *m, bool in_place)
{
	const struct vm_shape vm_mode_shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};
	int populate_fd;

	/* Where memory is allocated by default. */
	pin_self_to_cpu(cpu);
	TEST_ASSERT(!syscall(__NR_getcpu, NULL, &m->node, NULL), "getcpu() failed");
	m->other_node = !m->node;

	m->in_place = in_place;
	if (in_place)
		gmem_vm_create(&m->gmem, GMEM_FLAGS);
	else
		__gmem_vm_create(&m->gmem, vm_mode_shape, 0);

	populate_fd = open_populate(m->gmem.vm);
	if (in_place)
		write_in_place(m, populate_fd);
	else
		write_vm_mode(m, populate_fd);
	if (populate_fd >= 0)
		kvm_close(populate_fd);
}

/* All that was written is there, for whoever may look at it. */
static void memory_check(struct memory *m)
{
	int page;

	/* Have the guest fault in what the file has, which it kept mapped so far. */
	for (page = 0; !m->in_place && page < NR_PAGES; page++) {
		if (page_writer(page) != HOST) {
			vm_mem_set_shared(m->gmem.vm, page_gpa(page), PAGE_SIZE);
			vm_mem_set_private(m->gmem.vm, page_gpa(page), PAGE_SIZE);
		}
	}

	guest_check(m->gmem.vcpu, 0, NR_PAGES, 1);
	if (m->in_place) {
		to_shared(m->gmem.fd, 0, NR_PAGES);
		host_check(m->gmem.mem, 0, NR_PAGES, 1);
	}
}

/* What is done to a page or to all of them. */
static void soft_offline(struct memory *m, int page)
{
	int r;

	if (!m->pfns[page])
		return;

	r = write_path(MEMORY_PATH "soft_offline_page", "0x%lx",
		       (unsigned long)(m->pfns[page] * PAGE_SIZE));
	TEST_ASSERT(!r || r == EBUSY, "Unexpected errno %d", r);
}

static void madvise_soft_offline(struct memory *m, int page)
{
	bool is_private = page_place(page) == IN_PRIVATE;
	int r = madvise(page_hva(m->gmem.mem, page), PAGE_SIZE, MADV_SOFT_OFFLINE);

	TEST_ASSERT(r ? errno == (is_private ? EFAULT : EBUSY) : !is_private,
		    "Unexpected result %d, errno %d", r, errno);
}

static void move_page(struct memory *m, int page)
{
	bool is_mapped = page_place(page) == IN_MAPPED;
	void *mem = page_hva(m->gmem.mem, page);
	int status;

	kvm_move_pages(0, 1, &mem, NULL, &status, 0);
	TEST_ASSERT_EQ(status, is_mapped ? m->node : -ENOENT);

	TEST_ASSERT(move_pages(0, 1, &mem, &m->other_node, &status, MPOL_MF_MOVE) >= 0,
		    "move_pages() failed, errno %d", errno);
}

static void migrate_all(struct memory *m, int page)
{
	unsigned long from = BIT(m->node), to = BIT(m->other_node);

	TEST_ASSERT(migrate_pages(0, 64, &from, &to) >= 0,
		    "migrate_pages() failed, errno %d", errno);
}

static void mbind_all(struct memory *m, int page)
{
	unsigned long to = BIT(m->other_node);
	int r = mbind(m->gmem.mem, GMEM_SIZE, MPOL_BIND, &to, 64, MPOL_MF_MOVE | MPOL_MF_STRICT);

	TEST_ASSERT(!r || errno == EIO, "mbind() failed, errno %d", errno);
}

static void pageout(struct memory *m, int page)
{
	TEST_ASSERT_EQ(madvise(m->gmem.mem, GMEM_SIZE, MADV_PAGEOUT), 0);
}

static void compact(struct memory *m, int page)
{
	TEST_ASSERT_EQ(write_path("/proc/sys/vm/compact_memory", "1"), 0);
}

static void drop_all_caches(struct memory *m, int page)
{
	TEST_ASSERT_EQ(write_path("/proc/sys/vm/drop_caches", "3"), 0);
}

static void fadvise(struct memory *m, int page)
{
	TEST_ASSERT_EQ(posix_fadvise(m->gmem.fd, 0, GMEM_SIZE, POSIX_FADV_DONTNEED), 0);
}

static void offline_memory(struct memory *m, int page)
{
	int r;

	for (page = 0; !m->pfns[page]; page++)
		;
	r = try_offline(m->pfns[page] / pages_per_block());

	/* Low memory has holes, which is another reason. */
	TEST_ASSERT(r == EBUSY || r == EINVAL, "Unexpected errno %d", r);
}

FIXTURE(in_place) {
	struct memory memory;
};

FIXTURE_VARIANT(in_place) {
	void (*run)(struct memory *m, int page);
	bool by_page;
};

FIXTURE_VARIANT_ADD(in_place, soft_offline) {
	.run = soft_offline,
	.by_page = true,
};

FIXTURE_VARIANT_ADD(in_place, madvise_soft_offline) {
	.run = madvise_soft_offline,
	.by_page = true,
};

FIXTURE_VARIANT_ADD(in_place, move_pages) {
	.run = move_page,
	.by_page = true,
};

FIXTURE_VARIANT_ADD(in_place, migrate_pages) {
	.run = migrate_all,
};

FIXTURE_VARIANT_ADD(in_place, mbind) {
	.run = mbind_all,
};

FIXTURE_VARIANT_ADD(in_place, pageout) {
	.run = pageout,
};

FIXTURE_VARIANT_ADD(in_place, compact) {
	.run = compact,
};

FIXTURE_VARIANT_ADD(in_place, drop_caches) {
	.run = drop_all_caches,
};

FIXTURE_VARIANT_ADD(in_place, fadvise) {
	.run = fadvise,
};

FIXTURE_VARIANT_ADD(in_place, offline_memory) {
	.run = offline_memory,
};

FIXTURE_SETUP(in_place)
{
	if (!is_multi_numa_node_system())
		SKIP(return, "Needs two nodes, e.g. by numa=fake=2");

	memory_create(&self->memory, true);
}

FIXTURE_TEARDOWN(in_place)
{
	gmem_vm_free(&self->memory.gmem);
}

/* C13, C26: Contents stay, and what was done to a page isn't a use of the page. */
TEST_F(in_place, contents)
{
	struct memory *m = &self->memory;
	int nr = variant->by_page ? 1 : NR_PAGES, page;
	u64 error_page;

	for (page = 0; page < NR_PAGES; page += nr) {
		pin_self_to_cpu(cpu);
		variant->run(m, page);

		pin_self_to_cpu(cpu2);
		to_shared(m->gmem.fd, page, nr);
		ASSERT_EQ(0, try_private(m->gmem.fd, page, nr, &error_page))
			TH_LOG("page %lu", error_page);
	}
	memory_check(m);
}

FIXTURE(vm_mode) {
	struct memory memory;
};

FIXTURE_VARIANT(vm_mode) {
	void (*run)(struct memory *m, int page);
	bool by_page;

	/* Needs to know where the pages are. */
	bool by_pfn;
};

FIXTURE_VARIANT_ADD(vm_mode, soft_offline) {
	.run = soft_offline,
	.by_page = true,
	.by_pfn = true,
};

FIXTURE_VARIANT_ADD(vm_mode, migrate_pages) {
	.run = migrate_all,
};

FIXTURE_VARIANT_ADD(vm_mode, compact) {
	.run = compact,
};

FIXTURE_VARIANT_ADD(vm_mode, drop_caches) {
	.run = drop_all_caches,
};

FIXTURE_VARIANT_ADD(vm_mode, fadvise) {
	.run = fadvise,
};

FIXTURE_VARIANT_ADD(vm_mode, offline_memory) {
	.run = offline_memory,
	.by_pfn = true,
};

FIXTURE_SETUP(vm_mode)
{
	if (in_place_is_default())
		SKIP(return, "There's no VM mode if in-place mode is the default");
	if (!is_multi_numa_node_system())
		SKIP(return, "Needs two nodes, e.g. by numa=fake=2");

	memory_create(&self->memory, false);
}

FIXTURE_TEARDOWN(vm_mode)
{
	gmem_vm_free(&self->memory.gmem);
}

/* C22, C26: Neither is private memory hurt that is in a guest_memfd of its own. */
TEST_F(vm_mode, contents)
{
	struct memory *m = &self->memory;
	int page, nr = NR_PAGES;

	if (variant->by_pfn) {
		for (page = nr = 0; page < NR_PAGES; page++)
			nr += page_writer(page) != HOST;
		find_gmem_pfns(0, m->pfns, nr);
	}

	for (page = 0; page < (variant->by_page ? nr : 1); page++)
		variant->run(m, page);
	memory_check(m);
}

/* Is there guest_memfd in the block, and nothing else that can't be moved? */
static bool only_gmem_is_in_the_way(int kpageflags_fd, u64 block, u64 nr)
{
	const u64 free_or_movable = BIT_ULL(KPF_BUDDY) | BIT_ULL(KPF_LRU) | BIT_ULL(KPF_HUGE);
	u64 flags[512], i, pfn, end = (block + 1) * nr;
	bool has_gmem = false;

	/* Have a look here and there, before looking at everything. */
	for (pfn = block * nr; pfn < end && !has_gmem; pfn += ARRAY_SIZE(flags)) {
		if (pread(kpageflags_fd, flags, sizeof(*flags), pfn * sizeof(*flags)) <= 0)
			return false;
		has_gmem = is_unmapped_gmem(*flags);
	}
	if (!has_gmem)
		return false;

	for (pfn = block * nr; pfn < end; pfn += ARRAY_SIZE(flags)) {
		if (pread(kpageflags_fd, flags, sizeof(flags),
			  pfn * sizeof(*flags)) != sizeof(flags))
			return false;
		for (i = 0; i < ARRAY_SIZE(flags); i++)
			if (!(flags[i] & free_or_movable))
				return false;
	}
	return true;
}

/* C26: Memory that could be taken out of use but for a guest isn't, and at once. */
TEST(offline_block)
{
	const u64 nr = pages_per_block();
	int kpageflags_fd = open("/proc/kpageflags", O_RDONLY), fd;
	struct kvm_vm *vm = ____vm_create(in_place_shape);
	unsigned long node = BIT(1);
	bool found = false;
	u64 size, block, flags;
	u8 *mem;

	fd = vm_create_guest_memfd(vm, SZ_1G, GMEM_FLAGS);
	mem = kvm_mmap(SZ_1G, PROT_READ | PROT_WRITE, MAP_SHARED, fd);

	/*
	 * The kernel keeps together what can't be moved.  Have more than it has of
	 * its own, and where it has less.
	 */
	if (is_multi_numa_node_system())
		kvm_mbind(mem, SZ_1G, MPOL_BIND, &node, 64, 0);
	for (size = 0; size < SZ_1G && !found; size += SZ_32M) {
		kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, size, SZ_32M);
		for (block = 0; !found && pread(kpageflags_fd, &flags, sizeof(flags),
						block * nr * sizeof(flags)) > 0; block++)
			found = only_gmem_is_in_the_way(kpageflags_fd, block, nr);
	}
	ASSERT_TRUE(found);
	TH_LOG("block %lu, after allocating %lu MiB", block - 1, size / SZ_1M);
	ASSERT_EQ(EBUSY, try_offline(block - 1));

	kvm_close(kpageflags_fd);
	kvm_munmap(mem, SZ_1G);
	kvm_close(fd);
	kvm_vm_free(vm);
}

/* C26: Pages of a guest_memfd don't become part of a huge page. */
TEST(collapse)
{
	const size_t size = SZ_4M, nr = size / PAGE_SIZE;
	struct kvm_vm *vm = ____vm_create(in_place_shape);
	u64 error_page;
	u8 *mem;
	int fd;

	fd = vm_create_guest_memfd(vm, size, GMEM_FLAGS);
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	host_fill(mem, 0, nr, 1);

	ASSERT_EQ(-1, madvise((void *)ALIGN((u64)mem, SZ_2M), SZ_2M, MADV_COLLAPSE));
	ASSERT_EQ(EINVAL, errno);

	host_check(mem, 0, nr, 1);
	ASSERT_EQ(0, try_private(fd, 0, nr, &error_page));
	to_shared(fd, 0, nr);
	host_check(mem, 0, nr, 1);

	kvm_munmap(mem, size);
	kvm_close(fd);
	kvm_vm_free(vm);
}

/* The last SIGBUS, and where to go on if going on is no use. */
static siginfo_t sigbus;

static void sigbus_handler(int sig, siginfo_t *info, void *context)
{
	sigbus = *info;
	if (info->si_code != BUS_MCEERR_AO)
		siglongjmp(expect_sigbus_jmpbuf, 1);
}

/* Returns the code of the SIGBUS that @action gets for something at @mem, or 0. */
#define sigbus_code(mem, action)						\
({										\
	struct sigaction sa_old, sa = {						\
		.sa_sigaction = sigbus_handler,					\
		.sa_flags = SA_SIGINFO,						\
	};									\
	void *addr = (mem);							\
										\
	memset(&sigbus, 0, sizeof(sigbus));					\
	sigaction(SIGBUS, &sa, &sa_old);					\
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1))				\
		action;								\
	sigaction(SIGBUS, &sa_old, NULL);					\
	TEST_ASSERT(!sigbus.si_code || sigbus.si_addr == addr,			\
		    "SIGBUS for %p, not for %p", sigbus.si_addr, addr);		\
	sigbus.si_code;								\
})

FIXTURE(poison) {
	struct gmem_vm gmem;
};

FIXTURE_VARIANT(poison) {
	bool madvise;
	bool is_private;
	bool is_mapped;
	bool is_written;
};

FIXTURE_VARIANT_ADD(poison, madvise_mapped) {
	.madvise = true,
	.is_mapped = true,
	.is_written = true,
};

FIXTURE_VARIANT_ADD(poison, madvise_shared) {
	.madvise = true,
	.is_written = true,
};

FIXTURE_VARIANT_ADD(poison, madvise_allocated) {
	.madvise = true,
};

FIXTURE_VARIANT_ADD(poison, pfn_mapped) {
	.is_mapped = true,
	.is_written = true,
};

FIXTURE_VARIANT_ADD(poison, pfn_shared) {
	.is_written = true,
};

FIXTURE_VARIANT_ADD(poison, pfn_private) {
	.is_private = true,
	.is_written = true,
};

FIXTURE_VARIANT_ADD(poison, pfn_allocated) {
};

FIXTURE_VARIANT_ADD(poison, pfn_private_allocated) {
	.is_private = true,
};

FIXTURE_SETUP(poison)
{
	gmem_vm_create(&self->gmem, GMEM_FLAGS);

	/* Learn of poison before using it. */
	ASSERT_EQ(0, prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
}

FIXTURE_TEARDOWN(poison)
{
	gmem_vm_free(&self->gmem);
}

/* C4, C6, C9, C26: Poison is told to all who have or touch the page, and spares the others. */
TEST_F(poison, poison)
{
	struct gmem_vm *gmem = &self->gmem;
	const int page = 10;
	u8 *hva = page_hva(gmem->mem, page);
	int code, expected = 0, r = EBUSY;
	u64 pfn, error_page;

	/* The guest writes, the host doesn't. */
	guest_fill(gmem->vcpu, 0, page, 1);
	guest_fill(gmem->vcpu, page + 1, NR_PAGES - page - 1, 1);
	if (variant->is_written) {
		guest_fill(gmem->vcpu, page, 1, 1);
		host_read(gmem->mem, page);
		pfn = mapped_pfn(hva);
		if (!variant->is_mapped)
			kvm_madvise(hva, PAGE_SIZE, MADV_DONTNEED);
	} else {
		kvm_fallocate(gmem->fd, FALLOC_FL_KEEP_SIZE, page * PAGE_SIZE, PAGE_SIZE);
		find_gmem_pfns(BIT_ULL(KPF_UPTODATE), &pfn, 1);
	}

	if (variant->is_private) {
		to_private(gmem->fd, page, 1);
		ASSERT_EQ(-1, madvise(hva, PAGE_SIZE, MADV_HWPOISON));
		ASSERT_EQ(EFAULT, errno);
	}

	if (variant->madvise) {
		expected = BUS_MCEERR_AR;
		code = sigbus_code(hva, madvise(hva, PAGE_SIZE, MADV_HWPOISON));
	} else {
		if (variant->is_mapped)
			expected = BUS_MCEERR_AO;
		code = sigbus_code(hva, r = corrupt_pfn(pfn));
	}
	ASSERT_EQ(expected, code);
	ASSERT_EQ(EBUSY, r);
	ASSERT_TRUE(pfn_flags(pfn) & BIT_ULL(KPF_HWPOISON));

	guest_check(gmem->vcpu, 0, page, 1);
	guest_check(gmem->vcpu, page + 1, NR_PAGES - page - 1, 1);
	host_check(gmem->mem, 0, page, 1);
	host_check(gmem->mem, page + 1, NR_PAGES - page - 1, 1);
	ASSERT_EQ(EHWPOISON, try_guest_read(gmem->vcpu, page_gpa(page)));
	ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, gmem->vcpu->run->exit_reason);
	ASSERT_EQ(page_gpa(page), gmem->vcpu->run->memory_fault.gpa);

	/* It can become the host's, but not the guest's again. */
	if (variant->is_private) {
		ASSERT_TRUE(read_raises_sigbus(hva));
		to_shared(gmem->fd, page, 1);
	}
	ASSERT_EQ(BUS_MCEERR_AR, sigbus_code(hva, READ_ONCE(*hva)));
	ASSERT_EQ(EHWPOISON, try_private(gmem->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(page, error_page);
	to_private(gmem->fd, 0, page);
	to_shared(gmem->fd, 0, NR_PAGES);

	/* A new page is all that it takes, and to forget the old one. */
	kvm_fallocate(gmem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      page * PAGE_SIZE, PAGE_SIZE);
	unpoison_pfn(pfn);
	kvm_madvise(hva, PAGE_SIZE, MADV_DONTNEED);
	ASSERT_EQ(0, guest_read(gmem->vcpu, page_gpa(page)));
	ASSERT_EQ(0, host_read(gmem->mem, page));
	ASSERT_EQ(0, try_private(gmem->fd, 0, NR_PAGES, &error_page));
	guest_fill(gmem->vcpu, page, 1, 1);
	to_shared(gmem->fd, 0, NR_PAGES);
	host_check(gmem->mem, 0, NR_PAGES, 1);
}

static void punch_poisoned(struct gmem_vm *gmem, int page, u64 pfn)
{
	kvm_fallocate(gmem->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      page * PAGE_SIZE, PAGE_SIZE);
	unpoison_pfn(pfn);
}

/*
 * C4, C6, C12, C26: Poison several pages of a range, shared and private ones, and have
 * another one be in use.  One after the other stands in the way, as long as it does.
 */
TEST(poison_several)
{
	const int pages[] = { 10, 20, 30, 40 };
	struct gmem_vm gmem;
	char buf[PAGE_SIZE];
	int pipe_fds[2], i;
	u64 pfns[4], error_page;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	guest_fill(gmem.vcpu, 0, NR_PAGES, 1);
	for (i = 0; i < 4; i++) {
		host_read(gmem.mem, pages[i]);
		pfns[i] = mapped_pfn(page_hva(gmem.mem, pages[i]));
	}
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(gmem.mem, 5)));
	to_private(gmem.fd, 30, 20);
	for (i = 0; i < 4; i++)
		sigbus_code(page_hva(gmem.mem, pages[i]), corrupt_pfn(pfns[i]));
	for (i = 0; i < 4; i++)
		ASSERT_EQ(EHWPOISON, guest_read_limited(gmem.vcpu, page_gpa(pages[i])));

	/* First those that are to become private, in order, and then the one in use. */
	ASSERT_EQ(EHWPOISON, try_private(gmem.fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	punch_poisoned(&gmem, 10, pfns[0]);
	ASSERT_EQ(EHWPOISON, try_private(gmem.fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(20, error_page);
	punch_poisoned(&gmem, 20, pfns[1]);
	ASSERT_EQ(EAGAIN, try_private(gmem.fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(5, error_page);
	unsplice_page(pipe_fds, buf);
	to_private(gmem.fd, 0, NR_PAGES);

	/* What's private already can be punched as it is. */
	punch_poisoned(&gmem, 30, pfns[2]);
	ASSERT_EQ(0, guest_read(gmem.vcpu, page_gpa(30)));

	/* One that isn't keeps nobody from sharing it, but can't become private again. */
	to_shared(gmem.fd, 0, NR_PAGES);
	ASSERT_EQ(EHWPOISON, try_private(gmem.fd, 30, 20, &error_page));
	ASSERT_EQ(40, error_page);
	punch_poisoned(&gmem, 40, pfns[3]);
	to_private(gmem.fd, 0, NR_PAGES);

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, guest_read(gmem.vcpu, page_gpa(pages[i])));
		guest_check(gmem.vcpu, pages[i] - 9, 9, 1);
	}
	guest_check(gmem.vcpu, 41, NR_PAGES - 41, 1);
	gmem_vm_free(&gmem);
}

/* C22, C26: The same of a private page in VM mode, where no process can map it. */
TEST(poison_vm_mode)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
	};
	struct gmem_vm gmem;
	u64 pfn;

	if (in_place_is_default())
		SKIP(return, "There's no VM mode if in-place mode is the default");

	__gmem_vm_create(&gmem, shape, 0);
	vm_mem_set_private(gmem.vm, GMEM_GPA, GMEM_SIZE);
	guest_fill(gmem.vcpu, 3, 1, 1);
	find_gmem_pfns(0, &pfn, 1);
	guest_fill(gmem.vcpu, 2, 1, 1);

	/* Shared pages are elsewhere. */
	vm_mem_set_shared(gmem.vm, page_gpa(4), PAGE_SIZE);
	host_fill(gmem.mem, 4, 1, 1);

	ASSERT_EQ(0, sigbus_code(NULL, corrupt_pfn(pfn)));
	guest_check(gmem.vcpu, 2, 1, 1);
	guest_check(gmem.vcpu, 4, 1, 1);
	ASSERT_EQ(EHWPOISON, try_guest_read(gmem.vcpu, page_gpa(3)));

	kvm_fallocate(gmem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
	unpoison_pfn(pfn);
	ASSERT_EQ(0, guest_read(gmem.vcpu, page_gpa(3)));
	gmem_vm_free(&gmem);
}

/* A VMM's mapping of a guest_memfd, and another process with it, if any. */
struct locking {
	u8 *mem;
	int fd;
	pid_t pid;
};

static u8 *map_gmem(int fd, int flags)
{
	return kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd);
}

/* Ways to lock memory.  Return where the guest_memfd is mapped then. */
static u8 *lock_mlock(struct locking *l)
{
	TEST_ASSERT_EQ(mlock(l->mem, GMEM_SIZE), 0);
	return l->mem;
}

static u8 *lock_mlock_onfault(struct locking *l)
{
	TEST_ASSERT_EQ(mlock2(l->mem, GMEM_SIZE, MLOCK_ONFAULT), 0);
	return l->mem;
}

static u8 *lock_mlockall(struct locking *l)
{
	TEST_ASSERT_EQ(mlockall(MCL_CURRENT | MCL_FUTURE), 0);
	return l->mem;
}

static u8 *lock_mlockall_future(struct locking *l)
{
	TEST_ASSERT_EQ(mlockall(MCL_FUTURE), 0);
	return map_gmem(l->fd, 0);
}

static u8 *lock_mlockall_onfault(struct locking *l)
{
	TEST_ASSERT_EQ(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT), 0);
	return map_gmem(l->fd, 0);
}

static u8 *lock_map_locked(struct locking *l)
{
	return map_gmem(l->fd, MAP_LOCKED);
}

static u8 *lock_mremap(struct locking *l)
{
	u8 *mem = kvm_mmap(GMEM_SIZE / 2, PROT_READ | PROT_WRITE, MAP_SHARED, l->fd);

	TEST_ASSERT_EQ(mlock(mem, GMEM_SIZE / 2), 0);
	host_fill(mem, 0, NR_PAGES / 2, 1);
	mem = mremap(mem, GMEM_SIZE / 2, GMEM_SIZE, MREMAP_MAYMOVE);
	TEST_ASSERT(mem != MAP_FAILED, "mremap() failed");
	return mem;
}

static void lock_in_child(struct locking *l, bool lock_parent)
{
	int fds[2];
	char byte = 0;

	TEST_ASSERT(!pipe(fds), "pipe() failed");
	if (lock_parent)
		lock_mlock(l);

	l->pid = fork_child();
	if (!l->pid) {
		lock_mlock(l);
		host_fill(l->mem, 0, NR_PAGES, 1);
		TEST_ASSERT_EQ(write(fds[1], &byte, 1), 1);
		pause();
		_exit(0);
	}
	TEST_ASSERT_EQ(read(fds[0], &byte, 1), 1);
	kvm_close(fds[0]);
	kvm_close(fds[1]);
}

static u8 *lock_fork(struct locking *l)
{
	lock_in_child(l, true);
	return l->mem;
}

static u8 *lock_other_process(struct locking *l)
{
	lock_in_child(l, false);
	return l->mem;
}

FIXTURE(lock) {
	struct gmem_vm gmem;
};

FIXTURE_VARIANT(lock) {
	u8 *(*lock)(struct locking *l);
	bool on_fault;
};

FIXTURE_VARIANT_ADD(lock, mlock) {
	.lock = lock_mlock,
};

FIXTURE_VARIANT_ADD(lock, mlock_onfault) {
	.lock = lock_mlock_onfault,
	.on_fault = true,
};

FIXTURE_VARIANT_ADD(lock, mlockall) {
	.lock = lock_mlockall,
};

FIXTURE_VARIANT_ADD(lock, mlockall_future) {
	.lock = lock_mlockall_future,
};

FIXTURE_VARIANT_ADD(lock, mlockall_onfault) {
	.lock = lock_mlockall_onfault,
	.on_fault = true,
};

FIXTURE_VARIANT_ADD(lock, map_locked) {
	.lock = lock_map_locked,
};

FIXTURE_VARIANT_ADD(lock, mremap) {
	.lock = lock_mremap,
};

FIXTURE_VARIANT_ADD(lock, fork) {
	.lock = lock_fork,
};

FIXTURE_VARIANT_ADD(lock, other_process) {
	.lock = lock_other_process,
};

FIXTURE_SETUP(lock)
{
	gmem_vm_create(&self->gmem, GMEM_FLAGS);
}

FIXTURE_TEARDOWN(lock)
{
	gmem_vm_free(&self->gmem);
}

static u64 locked_kb(void)
{
	return read_path("/proc/self/status", "VmLck:", 10);
}

/* C13: Locking a mapping doesn't make a use of its pages, and needs no retry. */
TEST_F(lock, convert)
{
	struct locking locking = { .mem = self->gmem.mem, .fd = self->gmem.fd };
	int fd = self->gmem.fd, i, page;
	u64 error_page, locked;
	u8 *mem;

	pin_self_to_cpu(cpu2);
	mem = variant->lock(&locking);

	/* What isn't touched is there only if that was asked for. */
	ASSERT_EQ(variant->on_fault, !nr_allocated(fd, mem, GMEM_SIZE));

	for (i = 0; i < 3; i++) {
		pin_self_to_cpu(cpu2);
		host_fill(mem, 0, NR_PAGES, 1);
		guest_check(self->gmem.vcpu, 0, NR_PAGES, 1);

		pin_self_to_cpu(i ? cpu : cpu2);
		for (page = 1; page < NR_PAGES; page += 2)
			to_private(fd, page, 1);
		ASSERT_EQ(0, try_private(fd, 0, NR_PAGES, &error_page))
			TH_LOG("page %lu", error_page);
		to_shared(fd, 0, NR_PAGES);
	}

	if (locking.pid) {
		kill(locking.pid, SIGKILL);
		waitpid(locking.pid, NULL, 0);
	}

	/* Nothing has been accounted, i.e. nothing is taken off. */
	locked = locked_kb();
	if (mem != self->gmem.mem)
		kvm_munmap(mem, GMEM_SIZE);
	else
		ASSERT_EQ(0, munlock(mem, GMEM_SIZE));
	ASSERT_EQ(locked, locked_kb());
	ASSERT_EQ(0, munlockall());
	ASSERT_EQ(0, locked_kb());
}

/*
 * Somebody who doesn't let others run on a CPU for half a second, unless the
 * scheduler steps in, as it does for those that have waited too long.
 */
#define HOG_NS	500000000ll

struct hog {
	pthread_t thread;
	u8 *mem;
	u64 laps;
	bool interrupted;
	bool stopped;
};

/* Has anybody else run on the CPU so far, or isn't it kept from them any more? */
static bool hog_failed(struct hog *hog)
{
	u64 laps = READ_ONCE(hog->laps);

	/* If interrupted right now, the hog knows in the lap behind this one. */
	while (READ_ONCE(hog->laps) < laps + 2 && !READ_ONCE(hog->stopped))
		sched_yield();

	return READ_ONCE(hog->interrupted) || READ_ONCE(hog->stopped);
}

static long nr_involuntary_switches(void)
{
	struct rusage usage;

	TEST_ASSERT(!getrusage(RUSAGE_THREAD, &usage), "getrusage() failed");
	return usage.ru_nivcsw;
}

static void *hog_worker(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct hog *hog = arg;
	struct timespec start;
	long switches;

	pin_self_to_cpu(cpu2);
	host_fill(hog->mem, 0, NR_PAGES, 1);

	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &param), "sched_setscheduler() failed");
	clock_gettime(CLOCK_MONOTONIC, &start);
	switches = nr_involuntary_switches();
	while (timespec_to_ns(timespec_elapsed(start)) < HOG_NS) {
		if (nr_involuntary_switches() != switches)
			WRITE_ONCE(hog->interrupted, true);
		WRITE_ONCE(hog->laps, hog->laps + 1);
	}
	WRITE_ONCE(hog->stopped, true);
	return NULL;
}

/* C13: A conversion doesn't wait for other CPUs. */
TEST(busy_cpu)
{
	struct hog hog = {};
	struct gmem_vm gmem;
	u64 error_page;
	int tries;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	hog.mem = gmem.mem;
	pin_self_to_cpu(cpu);

	/* One that does is never done before, others may have bad luck. */
	for (tries = 0; tries < 5; tries++) {
		hog.laps = 0;
		hog.interrupted = false;
		hog.stopped = false;
		kvm_pthread_create(&hog.thread, NULL, hog_worker, &hog);
		while (!READ_ONCE(hog.laps))
			sched_yield();

		ASSERT_EQ(0, try_private(gmem.fd, 0, NR_PAGES, &error_page));
		if (!hog_failed(&hog))
			break;

		kvm_pthread_join(hog.thread, NULL);
		to_shared(gmem.fd, 0, NR_PAGES);
		kvm_fallocate(gmem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			      GMEM_SIZE);
	}
	ASSERT_GT(5, tries);

	kvm_pthread_join(hog.thread, NULL);
	guest_check(gmem.vcpu, 0, NR_PAGES, 1);
	gmem_vm_free(&gmem);
}

/* A guest that wants more memory than its memory cgroup may have. */
#define CGROUP_LIMIT	SZ_64M
#define CGROUP_REST	SZ_2M
#define BIG_SIZE	((u64)SZ_8M)
#define BIG_PAGES	((int)(BIG_SIZE / PAGE_SIZE))
#define BIG_GPA		(GMEM_GPA + SZ_1G)

/* What is converted all the time, the rest is allocated. */
#define NR_CONVERTED	512

struct big {
	struct gmem_vm gmem;
	u8 *mem;
	int fd;

	/* The page that the guest reads next. */
	int next;

	pthread_t thread;
	bool stop;

	/* What else the VMM has its memory for. */
	void *other;
	size_t other_size;
};

/* Allocate until that fails.  Returns the errno. */
static int allocate_fallocate(struct big *big)
{
	return fallocate(big->fd, FALLOC_FL_KEEP_SIZE, NR_CONVERTED * PAGE_SIZE,
			 BIG_SIZE - NR_CONVERTED * PAGE_SIZE) ? errno : 0;
}

static int allocate_host(struct big *big)
{
	return madvise(page_hva(big->mem, NR_CONVERTED),
		       BIG_SIZE - NR_CONVERTED * PAGE_SIZE, MADV_POPULATE_WRITE) ? errno : 0;
}

static int allocate_guest(struct big *big)
{
	int r;

	for (; big->next < BIG_PAGES; big->next++) {
		r = try_guest_read(big->gmem.vcpu, BIG_GPA + big->next * PAGE_SIZE);
		if (r)
			return r;
	}
	return 0;
}

static void *convert_worker(void *arg)
{
	struct kvm_memory_attributes2 attr = {};
	struct big *big = arg;
	int i, r;

	for (i = 0; !READ_ONCE(big->stop); i++) {
		attr.offset = i % NR_CONVERTED * PAGE_SIZE;
		attr.size = PAGE_SIZE * (1 + i % (NR_CONVERTED - i % NR_CONVERTED));
		attr.attributes = i % 3 ? PRIVATE : 0;
		r = set_attributes(big->fd, &attr);
		TEST_ASSERT(!r || r == ENOMEM, "Unexpected errno %d", r);

		/* The kernel has much to say of each failure. */
		usleep(r ? 100000 : 1000);
	}
	return NULL;
}

static void big_create(struct big *big)
{
	memset(big, 0, sizeof(*big));
	big->next = NR_CONVERTED;
	gmem_vm_create(&big->gmem, GMEM_FLAGS);
	guest_fill(big->gmem.vcpu, 0, NR_PAGES, 1);

	big->fd = vm_create_guest_memfd(big->gmem.vm, BIG_SIZE, GMEM_FLAGS);
	big->mem = kvm_mmap(BIG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, big->fd);
	vm_set_user_memory_region2(big->gmem.vm, GMEM_SLOT2, KVM_MEM_GUEST_MEMFD, BIG_GPA,
				   BIG_SIZE, big->mem, big->fd, 0);
	virt_map(big->gmem.vm, BIG_GPA, BIG_GPA, BIG_PAGES);
}

FIXTURE(cgroup) {
	struct gmem_vm bystander;
	char root[32];
	char path[64];
};

FIXTURE_VARIANT(cgroup) {
	int (*allocate)(struct big *big);
};

FIXTURE_VARIANT_ADD(cgroup, fallocate) {
	.allocate = allocate_fallocate,
};

FIXTURE_VARIANT_ADD(cgroup, host) {
	.allocate = allocate_host,
};

FIXTURE_VARIANT_ADD(cgroup, guest) {
	.allocate = allocate_guest,
};

static const char *cgroup_file(const char *cgroup, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	return path;
}

FIXTURE_SETUP(cgroup)
{
	strcpy(self->root, "/tmp/cgroup.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->root));
	ASSERT_EQ(0, mount("cgroup2", self->root, "cgroup2", 0, NULL));
	ASSERT_EQ(0, write_path(cgroup_file(self->root, "cgroup.subtree_control"), "+memory"));

	strcpy(self->path, cgroup_file(self->root, "gmem"));
	ASSERT_EQ(0, mkdir(self->path, 0755));
	ASSERT_EQ(0, write_path(cgroup_file(self->path, "memory.max"), "%d", CGROUP_LIMIT));

	/* Somebody who has nothing to do with it. */
	gmem_vm_create(&self->bystander, GMEM_FLAGS);
	guest_fill(self->bystander.vcpu, 0, NR_PAGES, 1);
	to_private(self->bystander.fd, 0, NR_PAGES / 2);
}

FIXTURE_TEARDOWN(cgroup)
{
	guest_check(self->bystander.vcpu, 0, NR_PAGES, 1);
	to_shared(self->bystander.fd, 0, NR_PAGES);
	host_check(self->bystander.mem, 0, NR_PAGES, 1);
	gmem_vm_free(&self->bystander);

	EXPECT_EQ(0, rmdir(self->path));
	EXPECT_EQ(0, umount(self->root));
	EXPECT_EQ(0, rmdir(self->root));
}

/* Run @fn in a process that is in the cgroup.  Returns its status. */
static int run_in_cgroup(const char *cgroup, int oom_score_adj,
			 void (*fn)(const char *cgroup, int (*allocate)(struct big *big)),
			 int (*allocate)(struct big *big))
{
	int status;
	pid_t pid;

	pid = fork_child();
	if (!pid) {
		TEST_ASSERT_EQ(write_path(cgroup_file(cgroup, "cgroup.procs"), "0"), 0);
		TEST_ASSERT_EQ(write_path("/proc/self/oom_score_adj", "%d", oom_score_adj), 0);
		fn(cgroup, allocate);
		_exit(0);
	}
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

/* Leave some of what the cgroup may have. */
static void big_start(struct big *big, const char *cgroup)
{
	u64 used;

	big_create(big);
	kvm_pthread_create(&big->thread, NULL, convert_worker, big);

	used = read_path(cgroup_file(cgroup, "memory.current"), NULL, 10);
	TEST_ASSERT(used + CGROUP_REST < CGROUP_LIMIT, "%lu bytes are used already", used);
	big->other_size = CGROUP_LIMIT - CGROUP_REST - used;
	big->other = kvm_mmap(big->other_size, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
}

/* Nobody in the cgroup may be killed: what can't be had is refused. */
static void be_refused(const char *cgroup, int (*allocate)(struct big *big))
{
	struct big big;
	int r;

	big_start(&big, cgroup);
	r = allocate(&big);

	/* Don't do anything else before there's memory again, e.g. print. */
	kvm_munmap(big.other, big.other_size);
	TEST_ASSERT_EQ(r, ENOMEM);
	TEST_ASSERT_EQ(allocate(&big), 0);

	WRITE_ONCE(big.stop, true);
	kvm_pthread_join(big.thread, NULL);
	gmem_set_private(big.fd, 0, BIG_SIZE);
	gmem_set_shared(big.fd, 0, BIG_SIZE);
	guest_check(big.gmem.vcpu, 0, NR_PAGES, 1);
}

/* C4, C25, C26 */
TEST_F(cgroup, refused)
{
	ASSERT_EQ(0, run_in_cgroup(self->path, -1000, be_refused, variant->allocate));
}

static void be_killed(const char *cgroup, int (*allocate)(struct big *big))
{
	struct big big;

	big_start(&big, cgroup);
	allocate(&big);
}

/* C25, C26: The other way is that the VMM is killed, and leaves nothing. */
TEST_F(cgroup, killed)
{
	struct timespec start;
	u64 used;
	int status;

	status = run_in_cgroup(self->path, 1000, be_killed, variant->allocate);
	ASSERT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(SIGKILL, WTERMSIG(status));
	ASSERT_LT(0, read_path(cgroup_file(self->path, "memory.events"), "oom_kill ", 10));

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		used = read_path(cgroup_file(self->path, "memory.current"), NULL, 10);
	} while (used > SZ_2M && timespec_elapsed(start).tv_sec < 5);
	ASSERT_GT(SZ_2M, used);
}

int main(int argc, char *argv[])
{
	cpu = other_cpu(-1);
	cpu2 = other_cpu(cpu);
	__TEST_REQUIRE(cpu2 >= 0, "Needs two CPUs");

	require_in_place_vm();
	__TEST_REQUIRE(!geteuid(), "Needs root");

	return test_harness_run(argc, argv);
}
