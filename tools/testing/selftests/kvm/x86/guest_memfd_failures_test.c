// SPDX-License-Identifier: GPL-2.0-only
/*
 * Proves C4, C5, C6, C11 and C25.  Have every allocation that an operation on a
 * guest_memfd makes fail once, one after the other until there's none left: the
 * operation fails with ENOMEM and has changed nothing, or has done without; the next
 * try succeeds; and nothing is lost.
 *
 * Objects and pages fail in passes of their own: which pages are allocated depends on
 * what the caches of the allocator happen to have.  So does which objects are, to some
 * extent.  Hence have an allocation fail once more that has made no difference, so that
 * one that comes and goes hides no other, and go on for a while when nothing has failed.
 *
 * There's one kind of allocation that can't be had to fail at will: several nodes of
 * a maple tree come from a sheaf, which the allocator mostly has.  With slab_debug
 * there are no sheaves, and more is expected to fail.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/align.h>
#include <linux/falloc.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define FAIL_PAGE_ALLOC	"/sys/kernel/debug/fail_page_alloc/"
#define INODE_CACHE	"kvm_gmem_inode_cache"
#define KVM_REFCNT	"/sys/module/kvm/refcnt"

/* What the tree has bits for, as a unit, where a range is mixed. */
#define CHUNK_PAGES	(SZ_2M / PAGE_SIZE)

#define BIG_SLOT	GMEM_SLOT2
#define BIG_GPA		(GMEM_GPA + SZ_1G)

/* The pages of a big file that the guest can get to. */
#define NR_BIG		(4 * CHUNK_PAGES)

/* A page in the middle of nowhere, in a file as large as this. */
#define FAR_PAGE	100000
#define FAR_SIZE	((u64)SZ_1G)

/* A pass is over when that many times in a row there's nothing left to fail. */
#define NR_NOTHING_LEFT	3

/*
 * What fails and makes no difference is tried that often: the allocator may have
 * wanted a page for itself, and found another way.
 */
#define NR_TRIES	5

/* Whether the nodes of trees come one by one, i.e. fail as other objects do. */
static bool no_sheaves;

static void set(const char *path, const char *value)
{
	TEST_ASSERT_EQ(write_path(path, "%s", value), 0);
}

enum pass {
	FAIL_OBJECTS,
	FAIL_PAGES,
	NR_PASSES,
};

static const char * const pass_names[] = { "objects", "pages" };

/* Have fail-nth count what the pass is about, and nothing else.  This is for all tasks. */
static void set_pass(enum pass pass)
{
	/* Caches would have to be chosen. */
	set(FAILSLAB "cache-filter", pass == FAIL_OBJECTS ? "N" : "Y");
	set(FAIL_PAGE_ALLOC "min-order", pass == FAIL_PAGES ? "0" : "99");
}

/* What other tests may expect. */
static void reset_passes(void)
{
	set(FAILSLAB "cache-filter", "N");
	set(FAIL_PAGE_ALLOC "min-order", "1");
	set(FAIL_PAGE_ALLOC "ignore-gfp-wait", "Y");
	set(FAIL_PAGE_ALLOC "ignore-gfp-highmem", "Y");
}

static void init_passes(void)
{
	set(FAILSLAB "ignore-gfp-wait", "N");
	set(FAILSLAB "verbose", "0");
	set(FAIL_PAGE_ALLOC "ignore-gfp-wait", "N");
	set(FAIL_PAGE_ALLOC "ignore-gfp-highmem", "N");
	set(FAIL_PAGE_ALLOC "verbose", "0");
}

/* Shapes of conversions: what the file is like, and which part of it changes. */
enum fragments {
	IN_ONE_PIECE,
	ODD_PAGES,	/* Of the last chunk but one, have the wanted state. */
	SOME_CHUNKS,	/* The second one of each four has it. */
};

struct shape {
	u64 nr_chunks;
	enum fragments fragments;
	u64 first;
	u64 nr;
	bool populated;
};

struct ctx {
	const struct shape *shape;
	bool private;
	u64 flags;

	struct gmem_vm gmem;
	struct kvm_vm *vm;
	void *space;	/* Where there's nothing, not even page tables. */
	u8 *mem;
	u64 error_offset;
	int nth_fd;
	int fd;
	int next_fd;
	int round;
};

/* Without TEST_ASSERT() and the like, which may allocate. */
static void fail_nth(struct ctx *ctx, int nth)
{
	char buf[16];
	int len = snprintf(buf, sizeof(buf), "%d", nth);

	if (pwrite(ctx->nth_fd, buf, len, 0) != len)
		_exit(KSFT_FAIL);
}

/* Returns whether an allocation has failed. */
static bool fail_end(struct ctx *ctx)
{
	char buf[16] = {};

	TEST_ASSERT(pread(ctx->nth_fd, buf, sizeof(buf) - 1, 0) > 0, "No fail-nth");
	fail_nth(ctx, 0);
	return !atoi(buf);
}

/* Is the page private?  Fails the test if that's not known.  Allocates shared ones. */
static bool page_is_private(u8 *mem, u64 page)
{
	if (!madvise(page_hva(mem, page), PAGE_SIZE, MADV_POPULATE_READ))
		return false;

	TEST_ASSERT(errno == EFAULT, "Page %lu: errno %d", page, errno);
	return true;
}

static bool is_mapped(void *mem)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	u64 entry;

	TEST_ASSERT(fd >= 0, "Failed to open /proc/self/pagemap");
	TEST_ASSERT_EQ(pread(fd, &entry, sizeof(entry), (u64)mem / PAGE_SIZE * sizeof(entry)),
		       sizeof(entry));
	kvm_close(fd);
	return entry & BIT_ULL(63);
}

/* The library's conversions are in ints. */
static void convert(int fd, u64 first, u64 nr, bool private)
{
	gmem_set_memory_attributes(fd, first * PAGE_SIZE, nr * PAGE_SIZE,
				   private ? PRIVATE : 0);
}

/* KVM_SET_MEMORY_ATTRIBUTES2 */

static u64 shape_pages(const struct shape *shape)
{
	return shape->nr_chunks * CHUNK_PAGES;
}

/* Pages around all that is a border of something, unless there are too many. */
static bool is_marked(const struct shape *shape, u64 page)
{
	const u64 last = shape->first + shape->nr - 1;

	return (shape->nr_chunks <= 16 && (page + 1) % CHUNK_PAGES <= 2) ||
	       (page + 1 >= shape->first && page <= shape->first + 1) ||
	       (page + 1 >= last && page <= last + 1);
}

static void convert_setup(struct ctx *ctx)
{
	const struct shape *shape = ctx->shape;
	const u64 nr = shape_pages(shape);
	u64 page;

	/* Data is written while all is shared. */
	ctx->fd = vm_create_guest_memfd(ctx->gmem.vm, nr * PAGE_SIZE,
					ctx->private || shape->populated ?
					GMEM_FLAGS : GUEST_MEMFD_FLAG_MMAP);
	ctx->mem = kvm_mmap(nr * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ctx->fd);

	if (shape->populated) {
		TEST_ASSERT_EQ(gmem_add_slot(ctx->gmem.vm, BIG_SLOT, BIG_GPA, nr,
					     ctx->fd, 0), 0);
		for (page = 0; page < nr; page++)
			if (is_marked(shape, page))
				host_fill(ctx->mem, page, 1, 1);
		if (!ctx->private)
			convert(ctx->fd, 0, nr, true);
		for (page = 0; page < nr; page++)
			if (is_marked(shape, page))
				__guest_check(ctx->gmem.vcpu, BIG_GPA + page * PAGE_SIZE,
					      page, 1, 1);
	}

	for (page = 1; shape->fragments == ODD_PAGES && page < CHUNK_PAGES; page += 2)
		convert(ctx->fd, nr - 2 * CHUNK_PAGES + page, 1, ctx->private);
	for (page = 1; shape->fragments == SOME_CHUNKS && page < shape->nr_chunks; page += 4)
		convert(ctx->fd, page * CHUNK_PAGES, CHUNK_PAGES, ctx->private);
}

static int convert_run(struct ctx *ctx)
{
	struct kvm_memory_attributes2 attr = {
		.offset = ctx->shape->first * PAGE_SIZE,
		.size = ctx->shape->nr * PAGE_SIZE,
		.attributes = ctx->private ? PRIVATE : 0,
		.error_offset = NO_ERROR_OFFSET,
	};
	int r = set_attributes(ctx->fd, &attr);

	ctx->error_offset = attr.error_offset;
	return r;
}

/* The state that a page is to be in. */
static bool convert_expected(struct ctx *ctx, u64 page, bool done)
{
	const struct shape *shape = ctx->shape;
	bool wanted = false;

	if (done)
		wanted = page >= shape->first && page < shape->first + shape->nr;
	if (shape->fragments == ODD_PAGES)
		wanted |= page % 2 && page / CHUNK_PAGES == shape->nr_chunks - 2;
	if (shape->fragments == SOME_CHUNKS)
		wanted |= page / CHUNK_PAGES % 4 == 1;

	return wanted == ctx->private;
}

static void convert_check(struct ctx *ctx, bool done)
{
	const u64 nr = shape_pages(ctx->shape);
	u64 stride = nr / 128 + 1, page;
	bool private;

	page = ctx->error_offset / PAGE_SIZE;
	TEST_ASSERT(done ? ctx->error_offset == NO_ERROR_OFFSET :
			   IS_ALIGNED(ctx->error_offset, PAGE_SIZE) &&
			   page - ctx->shape->first < ctx->shape->nr,
		    "error_offset is 0x%lx", ctx->error_offset);

	/* Borders each time, and of the others some each time. */
	for (page = 0; page < nr; page++) {
		if (page % stride != ctx->round % stride && !is_marked(ctx->shape, page))
			continue;

		private = convert_expected(ctx, page, done);
		TEST_ASSERT(page_is_private(ctx->mem, page) == private,
			    "Page %lu should be %s", page, private ? "private" : "shared");

		if (!ctx->shape->populated || !is_marked(ctx->shape, page))
			continue;
		if (!private)
			host_check(ctx->mem, page, 1, 1);
		__guest_check(ctx->gmem.vcpu, BIG_GPA + page * PAGE_SIZE, page, 1, 1);
	}
}

static void convert_teardown(struct ctx *ctx)
{
	if (ctx->shape->populated)
		gmem_delete_slot(ctx->gmem.vm, BIG_SLOT);
	kvm_munmap(ctx->mem, shape_pages(ctx->shape) * PAGE_SIZE);
	kvm_close(ctx->fd);
}

/* KVM_CREATE_GUEST_MEMFD */

static int next_fd(void)
{
	int fd = kvm_dup(STDIN_FILENO);

	kvm_close(fd);
	return fd;
}

static void create_setup(struct ctx *ctx)
{
	ctx->next_fd = next_fd();
}

static int create_run(struct ctx *ctx)
{
	ctx->fd = __vm_create_guest_memfd(ctx->gmem.vm, SZ_8M, ctx->flags);
	return ctx->fd < 0 ? errno : 0;
}

static void create_check(struct ctx *ctx, bool done)
{
	u8 *mem;

	TEST_ASSERT_EQ(next_fd(), ctx->next_fd + done);
	if (!done || !(ctx->flags & GUEST_MEMFD_FLAG_MMAP))
		return;

	mem = kvm_mmap(SZ_8M, PROT_READ, MAP_SHARED, ctx->fd);
	TEST_ASSERT_EQ(page_is_private(mem, 0), !(ctx->flags & GUEST_MEMFD_FLAG_INIT_SHARED));
	TEST_ASSERT_EQ(page_is_private(mem, SZ_8M / PAGE_SIZE - 1),
		       !(ctx->flags & GUEST_MEMFD_FLAG_INIT_SHARED));
	kvm_munmap(mem, SZ_8M);
}

static void close_fd(struct ctx *ctx)
{
	kvm_close(ctx->fd);
}

/* KVM_ENABLE_CAP */

static void enable_setup(struct ctx *ctx)
{
	ctx->vm = ____vm_create(default_mode_shape);
}

static int enable_run(struct ctx *ctx)
{
	return __vm_enable_cap(ctx->vm, KVM_CAP_GUEST_MEMFD_IN_PLACE, PRIVATE) ? errno : 0;
}

static void enable_check(struct ctx *ctx, bool done)
{
	TEST_ASSERT_EQ(vm_has_gmem_attributes(ctx->vm), done || in_place_is_default());
}

static void enable_teardown(struct ctx *ctx)
{
	kvm_vm_free(ctx->vm);
}

/* KVM_SET_USER_MEMORY_REGION2, of pages that begin and end anywhere. */

#define SLOT_FIRST	3
#define SLOT_NR		(NR_BIG - 7)

static void bind_setup(struct ctx *ctx)
{
	ctx->fd = vm_create_guest_memfd(ctx->gmem.vm, NR_BIG * PAGE_SIZE, GMEM_FLAGS);
	ctx->mem = kvm_mmap(NR_BIG * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ctx->fd);
	host_fill(ctx->mem, SLOT_FIRST, 1, 1);
}

/* Nothing but the ioctl, other than what the library does. */
static int set_region(struct ctx *ctx, u64 nr)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = BIG_SLOT,
		.flags = nr ? KVM_MEM_GUEST_MEMFD : 0,
		.guest_phys_addr = BIG_GPA,
		.memory_size = nr * PAGE_SIZE,
		.guest_memfd = ctx->fd,
		.guest_memfd_offset = SLOT_FIRST * PAGE_SIZE,
	};

	return ioctl(ctx->gmem.vm->fd, KVM_SET_USER_MEMORY_REGION2, &region) ? errno : 0;
}

static int bind_run(struct ctx *ctx)
{
	return set_region(ctx, SLOT_NR);
}

static void check_bound(struct ctx *ctx, bool bound)
{
	if (bound)
		__guest_check(ctx->gmem.vcpu, BIG_GPA, SLOT_FIRST, 1, 1);
	else
		guest_read_mmio(ctx->gmem.vcpu, BIG_GPA);

	/* Nobody has kept a page, nor forgets to unmap it. */
	convert(ctx->fd, 0, NR_BIG, true);
	convert(ctx->fd, 0, NR_BIG, false);
	host_check(ctx->mem, SLOT_FIRST, 1, 1);
}

static void bind_check(struct ctx *ctx, bool done)
{
	check_bound(ctx, done);
}

static void close_mapped(struct ctx *ctx)
{
	kvm_munmap(ctx->mem, NR_BIG * PAGE_SIZE);
	kvm_close(ctx->fd);
}

static void bind_teardown(struct ctx *ctx)
{
	TEST_ASSERT_EQ(set_region(ctx, 0), 0);
	close_mapped(ctx);
}

static void unbind_setup(struct ctx *ctx)
{
	bind_setup(ctx);
	TEST_ASSERT_EQ(bind_run(ctx), 0);
	__guest_check(ctx->gmem.vcpu, BIG_GPA, SLOT_FIRST, 1, 1);
}

static int unbind_run(struct ctx *ctx)
{
	return set_region(ctx, 0);
}

static void unbind_check(struct ctx *ctx, bool done)
{
	check_bound(ctx, !done);
}

/* fallocate() */

#define NR_ALLOCATED	3

static void far_setup(struct ctx *ctx)
{
	ctx->fd = vm_create_guest_memfd(ctx->gmem.vm, FAR_SIZE, GMEM_FLAGS);
}

static int allocate_run(struct ctx *ctx)
{
	return fallocate(ctx->fd, FALLOC_FL_KEEP_SIZE, FAR_PAGE * PAGE_SIZE,
			 NR_ALLOCATED * PAGE_SIZE) ? errno : 0;
}

/* What it has got before it failed, it may keep. */
static void allocate_check(struct ctx *ctx, bool done)
{
	u64 nr = nr_allocated(ctx->fd, NULL, 0);

	TEST_ASSERT(done ? nr == NR_ALLOCATED : nr < NR_ALLOCATED, "%lu pages", nr);

	/* Nobody has kept a reference. */
	convert(ctx->fd, FAR_PAGE, NR_ALLOCATED, true);
	convert(ctx->fd, FAR_PAGE, NR_ALLOCATED, false);
}

static void punch_setup(struct ctx *ctx)
{
	far_setup(ctx);
	TEST_ASSERT_EQ(allocate_run(ctx), 0);
}

static int punch_run(struct ctx *ctx)
{
	return fallocate(ctx->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (FAR_PAGE + 1) * PAGE_SIZE, PAGE_SIZE) ? errno : 0;
}

static void punch_check(struct ctx *ctx, bool done)
{
	TEST_ASSERT_EQ(nr_allocated(ctx->fd, NULL, 0), NR_ALLOCATED - done);
}

/* mmap() */

static int mmap_run(struct ctx *ctx)
{
	ctx->mem = mmap(NULL, FAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ctx->fd, 0);
	return ctx->mem == MAP_FAILED ? errno : 0;
}

static void mmap_check(struct ctx *ctx, bool done)
{
	if (done)
		TEST_ASSERT_EQ(host_read(ctx->mem, FAR_PAGE), 0);
}

static void far_teardown(struct ctx *ctx)
{
	kvm_munmap(ctx->mem, FAR_SIZE);
	kvm_close(ctx->fd);
}

/* Faults of the host, where there are no page tables yet. */

#define SPACE_SIZE	(2ul * SZ_1G)

static void host_new_setup(struct ctx *ctx)
{
	void *where;

	dirty_free_pages();
	far_setup(ctx);
	ctx->space = kvm_mmap(SPACE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	where = (void *)ALIGN((u64)ctx->space, SZ_1G);
	ctx->mem = mmap(where, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			ctx->fd, FAR_PAGE * PAGE_SIZE);
	TEST_ASSERT(ctx->mem == where, "mmap() failed");
}

static void host_old_setup(struct ctx *ctx)
{
	host_new_setup(ctx);
	kvm_fallocate(ctx->fd, FALLOC_FL_KEEP_SIZE, FAR_PAGE * PAGE_SIZE, PAGE_SIZE);
}

static int populate_read(struct ctx *ctx)
{
	return madvise(ctx->mem, PAGE_SIZE, MADV_POPULATE_READ) ? errno : 0;
}

static int populate_write(struct ctx *ctx)
{
	return madvise(ctx->mem, PAGE_SIZE, MADV_POPULATE_WRITE) ? errno : 0;
}

static int touch_read(struct ctx *ctx)
{
	return READ_ONCE(*(u64 *)ctx->mem) ? EILSEQ : 0;
}

static int touch_write(struct ctx *ctx)
{
	WRITE_ONCE(*(u64 *)ctx->mem, 0);
	return 0;
}

static void host_check_fault(struct ctx *ctx, bool done)
{
	u64 i;

	TEST_ASSERT_EQ(is_mapped(ctx->mem), done);

	/* The page, if it's there, isn't in use. */
	convert(ctx->fd, FAR_PAGE, 1, true);
	convert(ctx->fd, FAR_PAGE, 1, false);
	for (i = 0; done && i < WORDS_PER_PAGE; i++)
		TEST_ASSERT_EQ(READ_ONCE(((u64 *)ctx->mem)[i]), 0);
}

static void host_teardown(struct ctx *ctx)
{
	kvm_munmap(ctx->space, SPACE_SIZE);
	kvm_close(ctx->fd);
}

/* Faults of the guest, likewise. */

static void guest_new_setup(struct ctx *ctx)
{
	ctx->fd = vm_create_guest_memfd(ctx->gmem.vm, NR_BIG * PAGE_SIZE, GMEM_FLAGS);
	TEST_ASSERT_EQ(gmem_add_slot(ctx->gmem.vm, BIG_SLOT, BIG_GPA, NR_BIG, ctx->fd, 0), 0);
	ctx->mem = kvm_mmap(NR_BIG * PAGE_SIZE, PROT_READ, MAP_SHARED, ctx->fd);
	if (ctx->private)
		convert(ctx->fd, 0, NR_BIG, true);
	dirty_free_pages();
}

static void guest_old_setup(struct ctx *ctx)
{
	guest_new_setup(ctx);
	kvm_fallocate(ctx->fd, FALLOC_FL_KEEP_SIZE, 0, PAGE_SIZE);
}

static int guest_run(struct ctx *ctx)
{
	guest_read_begin(ctx->gmem.vcpu, BIG_GPA);
	return __vcpu_run(ctx->gmem.vcpu) ? errno : 0;
}

static int pre_fault_run(struct ctx *ctx)
{
	struct kvm_pre_fault_memory range = {
		.gpa = BIG_GPA,
		.size = PAGE_SIZE,
	};

	return __vcpu_ioctl(ctx->gmem.vcpu, KVM_PRE_FAULT_MEMORY, &range) ? errno : 0;
}

static void guest_check_fault(struct ctx *ctx, bool done)
{
	TEST_ASSERT_EQ(page_is_private(ctx->mem, 0), ctx->private);

	/* The page isn't in use, and nothing was mapped that isn't unmapped. */
	convert(ctx->fd, 0, 1, !ctx->private);
	convert(ctx->fd, 0, 1, ctx->private);

	/* A read that failed has to be tried again as it is. */
	if (done)
		TEST_ASSERT_EQ(guest_read(ctx->gmem.vcpu, BIG_GPA), 0);
}

/*
 * close() of a tree that is taken away in more than one piece, which needs memory.  What
 * frees by RCU then likes to have some for each of many objects.
 */

#define CLOSE_CHUNKS	4100ul

static void close_setup(struct ctx *ctx)
{
	u64 i;

	ctx->next_fd = next_fd();
	ctx->fd = vm_create_guest_memfd(ctx->gmem.vm, CLOSE_CHUNKS * SZ_2M, GMEM_FLAGS);
	for (i = 0; i < CLOSE_CHUNKS; i++)
		convert(ctx->fd, i * CHUNK_PAGES, 1, true);
}

static int close_run(struct ctx *ctx)
{
	return close(ctx->fd) ? errno : 0;
}

static void close_check(struct ctx *ctx, bool done)
{
	TEST_ASSERT_EQ(next_fd(), ctx->next_fd);
}

static void no_teardown(struct ctx *ctx)
{
}

/* What an operation is made of: setup and teardown come with each try. */
struct kind {
	void (*setup)(struct ctx *ctx);
	int (*run)(struct ctx *ctx);
	void (*check)(struct ctx *ctx, bool done);
	void (*teardown)(struct ctx *ctx);

	/* Doesn't fail, as the kernel tries again, or can do without. */
	bool never_fails;

	/* After some allocations, don't try each. */
	int nr_each;
};

static const struct kind conversion = {
	convert_setup, convert_run, convert_check, convert_teardown
};

static const struct kind creation = { create_setup, create_run, create_check, close_fd };
static const struct kind enabling = { enable_setup, enable_run, enable_check, enable_teardown };
static const struct kind binding = { bind_setup, bind_run, bind_check, bind_teardown };
static const struct kind unbinding = { unbind_setup, unbind_run, unbind_check, close_mapped };
static const struct kind allocating = { far_setup, allocate_run, allocate_check, close_fd };
static const struct kind punching = { punch_setup, punch_run, punch_check, close_fd, true };
static const struct kind mapping = { far_setup, mmap_run, mmap_check, far_teardown };
static const struct kind closing = {
	close_setup, close_run, close_check, no_teardown, true, .nr_each = 6
};

static const struct kind populate_read_new = {
	host_new_setup, populate_read, host_check_fault, host_teardown
};

static const struct kind populate_write_new = {
	host_new_setup, populate_write, host_check_fault, host_teardown
};

static const struct kind populate_read_old = {
	host_old_setup, populate_read, host_check_fault, host_teardown
};

static const struct kind populate_write_old = {
	host_old_setup, populate_write, host_check_fault, host_teardown
};

static const struct kind touch_read_new = {
	host_new_setup, touch_read, host_check_fault, host_teardown, true
};

static const struct kind touch_write_new = {
	host_new_setup, touch_write, host_check_fault, host_teardown, true
};

static const struct kind touch_read_old = {
	host_old_setup, touch_read, host_check_fault, host_teardown, true
};

static const struct kind touch_write_old = {
	host_old_setup, touch_write, host_check_fault, host_teardown, true
};

static const struct kind guest_new = {
	guest_new_setup, guest_run, guest_check_fault, bind_teardown
};

static const struct kind guest_old = {
	guest_old_setup, guest_run, guest_check_fault, bind_teardown
};

static const struct kind pre_faulting = {
	guest_new_setup, pre_fault_run, guest_check_fault, bind_teardown
};

/*
 * All operations, and how many objects and pages each is to fail for at least, or,
 * if it never fails, how many are to fail.
 */
static const struct op {
	const char *name;
	const struct kind *kind;
	int min_objects;
	int min_pages;

	/* Objects if there are no sheaves, where that's more. */
	int min_no_sheaves;

	struct shape shape;
	bool private;
	u64 flags;
} ops[] = {
	/* Bits, and a range of its own to the right of them: an object and a node each. */
	{ "convert a page, to private", &conversion, 4, .private = true,
	  .shape = { .nr_chunks = 4, .first = 700, .nr = 1 } },
	{ "convert a page, to shared", &conversion, 4,
	  .shape = { .nr_chunks = 4, .first = 700, .nr = 1 } },

	/* A range amid another one. */
	{ "convert 2 MiB, to private", &conversion, 4, .private = true,
	  .shape = { .nr_chunks = 4, .first = CHUNK_PAGES, .nr = CHUNK_PAGES } },
	{ "convert 2 MiB, to shared", &conversion, 4,
	  .shape = { .nr_chunks = 4, .first = CHUNK_PAGES, .nr = CHUNK_PAGES } },

	/* Bits at both ends. */
	{ "convert 2 MiB and ends, to private", &conversion, 5, .private = true,
	  .shape = { .nr_chunks = 4, .first = 17, .nr = 3 * CHUNK_PAGES } },
	{ "convert 2 MiB and ends, to shared", &conversion, 5,
	  .shape = { .nr_chunks = 4, .first = 17, .nr = 3 * CHUNK_PAGES } },

	/* The same, of pages that host and guest have mapped. */
	{ "convert what's mapped, to private", &conversion, 5, .private = true,
	  .shape = { .nr_chunks = 4, .first = 17, .nr = 3 * CHUNK_PAGES, .populated = true } },
	{ "convert what's mapped, to shared", &conversion, 5,
	  .shape = { .nr_chunks = 4, .first = 17, .nr = 3 * CHUNK_PAGES, .populated = true } },

	/* Bits that are no longer needed. */
	{ "convert odd pages, to private", &conversion, 2, .private = true,
	  .shape = { .nr_chunks = 4, .fragments = ODD_PAGES, .nr = 4 * CHUNK_PAGES } },
	{ "convert odd pages, to shared", &conversion, 2,
	  .shape = { .nr_chunks = 4, .fragments = ODD_PAGES, .nr = 4 * CHUNK_PAGES } },

	/* A tree of several levels: amid a leaf, and nearly all of it at once. */
	{ "convert a page of many ranges, to private", &conversion, 2, 0, 4, .private = true,
	  .shape = { .nr_chunks = 512, .fragments = SOME_CHUNKS,
		     .first = 203 * CHUNK_PAGES + 9, .nr = 1 } },
	{ "convert a page of many ranges, to shared", &conversion, 2, 0, 4,
	  .shape = { .nr_chunks = 512, .fragments = SOME_CHUNKS,
		     .first = 203 * CHUNK_PAGES + 9, .nr = 1 } },
	{ "convert many ranges, to private", &conversion, 3, 0, 4, .private = true,
	  .shape = { .nr_chunks = 512, .fragments = SOME_CHUNKS,
		     .first = 17, .nr = 510 * CHUNK_PAGES } },
	{ "convert many ranges, to shared", &conversion, 3, 0, 4,
	  .shape = { .nr_chunks = 512, .fragments = SOME_CHUNKS,
		     .first = 17, .nr = 510 * CHUNK_PAGES } },

	/* A descriptor's struct, an inode, a file and a name, an object and a node. */
	{ "create", &creation, 5 },
	{ "create, mappable", &creation, 5, .flags = GUEST_MEMFD_FLAG_MMAP },
	{ "create, shared", &creation, 5, .flags = GMEM_FLAGS },

	{ "enable the capability", &enabling },
	{ "bind to a memory region", &binding, 2 },
	{ "delete the memory region", &unbinding, 1 },
	{ "fallocate()", &allocating, .min_pages = NR_ALLOCATED },
	{ "punch a hole", &punching },
	{ "mmap()", &mapping, 2 },

	/* Two page tables, and the page. */
	{ "populate a new page for reading", &populate_read_new, .min_pages = 3 },
	{ "populate a new page for writing", &populate_write_new, .min_pages = 3 },
	{ "populate a page for reading", &populate_read_old, .min_pages = 2 },
	{ "populate a page for writing", &populate_write_old, .min_pages = 2 },
	{ "read a new page", &touch_read_new, .min_pages = 3 },
	{ "write a new page", &touch_write_new, .min_pages = 3 },
	{ "read a page", &touch_read_old, .min_pages = 2 },
	{ "write a page", &touch_write_old, .min_pages = 2 },

	{ "the guest reads a new page, private", &guest_new, .min_pages = 1, .private = true },
	{ "the guest reads a new page, shared", &guest_new, .min_pages = 1 },
	{ "the guest reads a page, private", &guest_old, .private = true },
	{ "the guest reads a page, shared", &guest_old },
	{ "fault in a new page, private", &pre_faulting, .min_pages = 1, .private = true },
	{ "fault in a new page, shared", &pre_faulting, .min_pages = 1 },

	{ "close", &closing, 1 },
};

static u64 nr_inodes(void)
{
	return slab_objects(INODE_CACHE);
}

static u64 nr_refs(void)
{
	return read_path(KVM_REFCNT, NULL, 10);
}

/* Have each object, or each page, fail. */
static void fail_each(struct ctx *ctx, const struct op *op, enum pass pass)
{
	int nr_failed = 0, nr_refused = 0, nothing_left = 0, tries = 0, min, nth, step, r;
	const struct kind *kind = op->kind;
	bool failed;

	set_pass(pass);

	for (nth = 1; nothing_left < NR_NOTHING_LEFT; nth += step, ctx->round++) {
		kind->setup(ctx);

		fail_nth(ctx, nth);
		r = kind->run(ctx);
		failed = fail_end(ctx);

		TEST_ASSERT(!r || (failed && r == ENOMEM && !kind->never_fails),
			    "Number %d of %s %s, errno %d", nth, pass_names[pass],
			    failed ? "failed" : "didn't fail", r);

		if (failed && !r && !kind->never_fails && ++tries < NR_TRIES) {
			step = 0;
		} else {
			tries = 0;
			step = kind->nr_each && nth > kind->nr_each ? nth : 1;
		}

		nothing_left = failed ? 0 : nothing_left + 1;
		nr_failed += failed && step;
		nr_refused += !!r;

		kind->check(ctx, !r);
		if (r) {
			TEST_ASSERT_EQ(kind->run(ctx), 0);
			kind->check(ctx, true);
		}
		kind->teardown(ctx);
	}

	ksft_print_msg("%s: %d %s failed, refused %d times, done all the same %d times\n",
		       op->name, nr_failed, pass_names[pass], nr_refused,
		       nr_failed - nr_refused);

	min = op->min_objects;
	if (pass == FAIL_PAGES)
		min = op->min_pages;
	else if (no_sheaves)
		min = max(min, op->min_no_sheaves);
	TEST_ASSERT((kind->never_fails ? nr_failed : nr_refused) >= min,
		    "There should be at least %d", min);
}

/* In a process of its own, so that the others are tested if one fails. */
static bool test_op(const struct op *op)
{
	struct ctx ctx = {
		.shape = &op->shape,
		.private = op->private,
		.flags = op->flags,
	};
	enum pass pass;
	int status;
	pid_t pid;

	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		ctx.nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
		TEST_ASSERT(ctx.nth_fd >= 0, "Failed to open fail-nth");
		gmem_vm_create(&ctx.gmem, GMEM_FLAGS);
		virt_map(ctx.gmem.vm, BIG_GPA, BIG_GPA, NR_BIG);

		for (pass = 0; pass < NR_PASSES; pass++)
			fail_each(&ctx, op, pass);

		gmem_vm_free(&ctx.gmem);
		_exit(0);
	}

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return !status;
}

/* Whether what can be counted has been given back by the process. */
static bool is_back(const char *name, u64 (*count)(void), u64 before)
{
	u64 nr = settled(count, before);

	if (nr != before)
		ksft_print_msg("%s: %lu, and not %lu as before\n", name, nr, before);
	return nr == before;
}

int main(int argc, char *argv[])
{
	u64 inodes, refs = 0;
	bool has_refs, ok;
	int i;

	__TEST_REQUIRE(!access("/proc/self/fail-nth", W_OK) &&
		       !access(FAILSLAB "cache-filter", W_OK) &&
		       !access(FAIL_PAGE_ALLOC "min-order", W_OK),
		       "Needs CONFIG_FAILSLAB, CONFIG_FAIL_PAGE_ALLOC, debugfs and root");
	__TEST_REQUIRE(has_slab_objects(INODE_CACHE), "Needs CONFIG_SLUB_DEBUG and sysfs");
	require_in_place_vm();

	no_sheaves = !read_path("/sys/kernel/slab/maple_node/sheaf_capacity", NULL, 10);
	has_refs = !access(KVM_REFCNT, R_OK);

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(ops));
	init_passes();

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		inodes = settled(nr_inodes, -1);
		if (has_refs)
			refs = settled(nr_refs, -1);

		ok = test_op(&ops[i]);
		ok &= is_back("inodes", nr_inodes, inodes);
		if (has_refs)
			ok &= is_back("references to KVM", nr_refs, refs);

		ksft_test_result(ok, "%s\n", ops[i].name);
	}

	reset_passes();
	ksft_finished();
}
