// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that short references to pages of a guest_memfd, by the guest, the kernel
 * and others, don't keep the pages from becoming private, at least not for long.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/falloc.h>

#include "gmem_fixture.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#include "../../../../../mm/gup_test.h"

static u8 the_copy[GMEM_SIZE] __aligned(PAGE_SIZE);

/* C13: Convert pages that the guest has just used. */
TEST_F(gmem, guest_touched)
{
	u64 error_page;
	int i;

	set_state(self->fd, 0);
	for (i = 0; i < NR_PAGES; i++) {
		guest_fill(self->vcpu, i, 1, 1);
		ASSERT_EQ(0, try_private(self->fd, i, 1, &error_page));
		guest_fill(self->vcpu, i, 1, 2);
		ASSERT_EQ(0, try_private(self->fd, i, 1, &error_page));
		to_shared(self->fd, i, 1);
		guest_fill(self->vcpu, i, 1, 3);
		host_check(self->mem, i, 1, 3);
	}
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));
	guest_check(self->vcpu, 0, NR_PAGES, 3);
}

/* C13: Convert pages while the guest uses them and faults them in. */
TEST_F(gmem, guest_touching)
{
	u64 lap, error_page;
	pthread_t thread;
	int i, first, r;

	set_state(self->fd, 0);
	thread = guest_spin_start(self->vcpu);

	for (i = 0; i < 100; i++) {
		/* Have the guest get all pages, most of the time. */
		lap = guest_spin_laps(self->vm);
		while (i % 4 && guest_spin_laps(self->vm) < lap + 2)
			sched_yield();

		first = i % 7;
		r = try_private(self->fd, first, NR_SPIN_PAGES - first - i % 5, &error_page);
		ASSERT_EQ(0, r) TH_LOG("page %lu, lap %lu", error_page, guest_spin_laps(self->vm));

		/* Have it allocate them all again. */
		if (i % 3)
			kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      0, GMEM_SIZE);
		to_shared(self->fd, 0, NR_PAGES);
	}

	guest_spin_stop(self->vm, thread);
}

/* C12, C13: Punch out pages while the guest faults them in. */
TEST_F(gmem, punched_while_touched)
{
	const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	pthread_t thread;
	u64 lap;
	int i;

	thread = guest_spin_start(self->vcpu);

	for (i = 0; i < 3 * NR_SPIN_PAGES; i++) {
		/* The guest gets its pages one by one, the next one is in flight. */
		kvm_fallocate(self->fd, mode, 0, GMEM_SIZE);
		while (nr_allocated(self->fd, self->mem, GMEM_SIZE) < 1 + i % NR_SPIN_PAGES)
			sched_yield();
		kvm_fallocate(self->fd, mode, 0, GMEM_SIZE);

		/* All that the guest has touched since is in the file. */
		lap = guest_spin_laps(self->vm);
		while (guest_spin_laps(self->vm) < lap + 2)
			sched_yield();
		ASSERT_EQ(NR_SPIN_PAGES, nr_allocated(self->fd, self->mem, GMEM_SIZE));
	}

	guest_spin_stop(self->vm, thread);
}

/* C13: Convert pages that are in the kernel's per-CPU caches. */
TEST_F(gmem, percpu_caches)
{
	int cpu = other_cpu(-1), cpu2 = other_cpu(cpu);
	u64 error_page;
	int i;

	if (cpu2 < 0)
		SKIP(return, "Needs two CPUs");

	set_state(self->fd, 0);
	for (i = 0; i < NR_PAGES / 2; i++) {
		pin_self_to_cpu(cpu2);
		if (i & 1)
			host_fill(self->mem, i, 1, 1);
		else
			guest_fill(self->vcpu, i, 1, 1);
		pin_self_to_cpu(i & 2 ? cpu : cpu2);
		ASSERT_EQ(0, try_private(self->fd, i, 1, &error_page)) TH_LOG("page %d", i);
	}

	/* Both CPUs have some of them. */
	for (; i < NR_PAGES; i++) {
		pin_self_to_cpu(i & 1 ? cpu : cpu2);
		host_fill(self->mem, i, 1, 1);
	}
	pin_self_to_cpu(cpu);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page))
		TH_LOG("page %lu", error_page);
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

/*
 * C4, C6, C9, C13: Convert a page that has more than 1024 mappings: a pin counts for
 * 1024 references, and mappings must not be mistaken for one.
 */
TEST_F(gmem, many_mappings)
{
	int gup_fd = gup_test_open(), pipe_fds[2], i;
	char buf[PAGE_SIZE];
	u64 error_page;
	u8 *mems[1100];

	set_state(self->fd, 0);
	for (i = 0; i < ARRAY_SIZE(mems); i++) {
		mems[i] = __kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				     self->fd, 10 * PAGE_SIZE);
		WRITE_ONCE(*mems[i], i & 0x7f);
	}

	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page))
		TH_LOG("page %lu", error_page);
	for (i = 0; i < ARRAY_SIZE(mems); i++)
		ASSERT_TRUE(read_raises_sigbus(mems[i]));

	/* Pin it, or take a reference, in addition to the mappings. */
	to_shared(self->fd, 0, NR_PAGES);
	for (i = 0; i < ARRAY_SIZE(mems); i++)
		ASSERT_EQ((ARRAY_SIZE(mems) - 1) & 0x7f, READ_ONCE(*mems[i]));
	if (gup_fd >= 0) {
		ASSERT_EQ(0, gup_test_pin(gup_fd, mems[1], PAGE_SIZE));
		ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
		ASSERT_EQ(10, error_page);
		gup_test_unpin(gup_fd);
		kvm_close(gup_fd);
	}
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, mems[1]));
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	unsplice_page(pipe_fds, buf);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page))
		TH_LOG("page %lu", error_page);

	for (i = 0; i < ARRAY_SIZE(mems); i++)
		kvm_munmap(mems[i], PAGE_SIZE);
}

/*
 * A thread on another CPU that takes short references to all pages, over and over
 * again.  It may have one most of the time, but never keeps one for long.
 */
struct busybody {
	const struct busybody_ops *ops;
	pthread_t thread;
	u8 *mem;
	int fd;
	u64 pfns[NR_PAGES];

	bool stop;
	u64 laps;
	u64 successes;
};

struct busybody_ops {
	/* Returns what the kernel lacks, or NULL. */
	const char *(*open)(struct busybody *busy);

	/* Returns whether it worked, which it can't if all pages are private. */
	bool (*lap)(struct busybody *busy);
};

static const char *process_vm_open(struct busybody *busy)
{
	struct iovec iov = { .iov_base = the_copy, .iov_len = 1 };

	busy->fd = -1;
	if (process_vm_readv(getpid(), &iov, 1, &iov, 1, 0) != 1)
		return "CONFIG_CROSS_MEMORY_ATTACH";
	return NULL;
}

static bool process_vm_lap(struct busybody *busy)
{
	struct iovec local = { .iov_base = the_copy, .iov_len = GMEM_SIZE };
	struct iovec remote = { .iov_base = busy->mem, .iov_len = GMEM_SIZE };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) > 0;
}

static const struct busybody_ops process_vm_ops = {
	.open = process_vm_open,
	.lap = process_vm_lap,
};

static const char *disk_open(struct busybody *busy)
{
	busy->fd = open("/dev/ram0", O_RDWR | O_DIRECT);
	return busy->fd < 0 ? "CONFIG_BLK_DEV_RAM and root" : NULL;
}

static bool disk_lap(struct busybody *busy)
{
	return pwrite(busy->fd, busy->mem, GMEM_SIZE, 0) > 0;
}

static const struct busybody_ops disk_ops = {
	.open = disk_open,
	.lap = disk_lap,
};

static const char *gup_open(struct busybody *busy)
{
	busy->fd = gup_test_open();
	return busy->fd < 0 ? "CONFIG_GUP_TEST, debugfs and root" : NULL;
}

static bool gup_lap(struct busybody *busy)
{
	struct gup_test gup = {
		.addr = (u64)busy->mem,
		.size = GMEM_SIZE,
		.nr_pages_per_call = NR_PAGES,
	};

	/* References, which aren't pins. */
	return !ioctl(busy->fd, GUP_FAST_BENCHMARK, &gup) && gup.size;
}

static const struct busybody_ops gup_ops = {
	.open = gup_open,
	.lap = gup_lap,
};

static const char *populate_open(struct busybody *busy)
{
	busy->fd = -1;
	return NULL;
}

static bool populate_lap(struct busybody *busy)
{
	kvm_madvise(busy->mem, GMEM_SIZE, MADV_DONTNEED);
	return !madvise(busy->mem, GMEM_SIZE, MADV_POPULATE_WRITE);
}

static const struct busybody_ops populate_ops = {
	.open = populate_open,
	.lap = populate_lap,
};

static const char *pagemap_open(struct busybody *busy)
{
	busy->fd = open("/proc/self/pagemap", O_RDONLY);
	return busy->fd < 0 ? "CONFIG_PROC_PAGE_MONITOR" : NULL;
}

static bool pagemap_lap(struct busybody *busy)
{
	u64 entries[NR_PAGES];
	int i, nr = 0;

	TEST_ASSERT_EQ(pread(busy->fd, entries, sizeof(entries),
			     (u64)busy->mem / PAGE_SIZE * sizeof(u64)), sizeof(entries));
	for (i = 0; i < NR_PAGES; i++)
		nr += !!(entries[i] & BIT_ULL(63));
	return nr;
}

static const struct busybody_ops pagemap_ops = {
	.open = pagemap_open,
	.lap = pagemap_lap,
};

/* To see whether a page is used, takes a reference and walks the page tables. */
static const char *page_idle_open(struct busybody *busy)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), i;

	busy->fd = open("/sys/kernel/mm/page_idle/bitmap", O_RDWR);
	if (fd < 0 || busy->fd < 0)
		return "CONFIG_IDLE_PAGE_TRACKING, CONFIG_PROC_PAGE_MONITOR and root";

	host_fill(busy->mem, 0, NR_PAGES, 1);
	TEST_ASSERT_EQ(pread(fd, busy->pfns, sizeof(busy->pfns),
			     (u64)busy->mem / PAGE_SIZE * sizeof(u64)), sizeof(busy->pfns));
	for (i = 0; i < NR_PAGES; i++)
		busy->pfns[i] &= GENMASK_ULL(54, 0);
	kvm_close(fd);
	return NULL;
}

static bool page_idle_lap(struct busybody *busy)
{
	u64 pfn = busy->pfns[busy->laps % NR_PAGES];
	off_t offset = pfn / 64 * sizeof(u64);
	u64 idle = BIT_ULL(pfn % 64);

	TEST_ASSERT_EQ(pwrite(busy->fd, &idle, sizeof(idle), offset), sizeof(idle));
	TEST_ASSERT_EQ(pread(busy->fd, &idle, sizeof(idle), offset), sizeof(idle));
	return true;
}

static const struct busybody_ops page_idle_ops = {
	.open = page_idle_open,
	.lap = page_idle_lap,
};

static const char *compaction_open(struct busybody *busy)
{
	busy->fd = open("/proc/sys/vm/compact_memory", O_WRONLY);
	return busy->fd < 0 ? "CONFIG_COMPACTION and root" : NULL;
}

static bool compaction_lap(struct busybody *busy)
{
	return pwrite(busy->fd, "1", 1, 0) == 1;
}

static const struct busybody_ops compaction_ops = {
	.open = compaction_open,
	.lap = compaction_lap,
};

/* Poison few pages, as each is lost for the whole machine. */
#define MAX_POISONED	16

static const char *poison_open(struct busybody *busy)
{
	busy->fd = -1;
	return access("/proc/sys/vm/memory_failure_recovery", F_OK) || geteuid() ?
	       "CONFIG_MEMORY_FAILURE and root" : NULL;
}

static bool poison_lap(struct busybody *busy)
{
	int status;
	pid_t pid;

	if (busy->laps >= MAX_POISONED) {
		sched_yield();
		return true;
	}

	/* In a process of its own, as are the page and the SIGBUS then. */
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		memset(the_copy, 1, PAGE_SIZE);
		_exit(madvise(the_copy, PAGE_SIZE, MADV_HWPOISON) ? errno : 0);
	}

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : !status,
		    "MADV_HWPOISON failed, status 0x%x", status);
	return true;
}

static const struct busybody_ops poison_ops = {
	.open = poison_open,
	.lap = poison_lap,
};

static void *busybody_worker(void *arg)
{
	struct busybody *busy = arg;

	while (!READ_ONCE(busy->stop)) {
		if (busy->ops->lap(busy))
			WRITE_ONCE(busy->successes, busy->successes + 1);
		WRITE_ONCE(busy->laps, busy->laps + 1);
	}
	return NULL;
}

FIXTURE(busy) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
	struct busybody busy;
};

FIXTURE_VARIANT(busy) {
	const struct busybody_ops *ops;
};

FIXTURE_VARIANT_ADD(busy, process_vm_readv) {
	.ops = &process_vm_ops,
};

FIXTURE_VARIANT_ADD(busy, direct_write) {
	.ops = &disk_ops,
};

FIXTURE_VARIANT_ADD(busy, gup_fast) {
	.ops = &gup_ops,
};

FIXTURE_VARIANT_ADD(busy, populate) {
	.ops = &populate_ops,
};

FIXTURE_VARIANT_ADD(busy, pagemap) {
	.ops = &pagemap_ops,
};

FIXTURE_VARIANT_ADD(busy, page_idle) {
	.ops = &page_idle_ops,
};

FIXTURE_VARIANT_ADD(busy, compaction) {
	.ops = &compaction_ops,
};

FIXTURE_VARIANT_ADD(busy, poison) {
	.ops = &poison_ops,
};

FIXTURE_SETUP(busy)
{
	int cpu = other_cpu(-1), cpu2 = other_cpu(cpu);
	struct gmem_vm gmem;
	const char *missing;

	if (cpu2 < 0)
		SKIP(return, "Needs two CPUs");

	gmem_vm_create(&gmem, GMEM_FLAGS);
	self->vcpu = gmem.vcpu;
	self->vm = gmem.vm;
	self->mem = gmem.mem;
	self->fd = gmem.fd;

	self->busy.ops = variant->ops;
	self->busy.mem = self->mem;
	missing = variant->ops->open(&self->busy);
	if (missing)
		SKIP(return, "Needs %s", missing);

	host_fill(self->mem, 0, NR_PAGES, 1);
	pin_self_to_cpu(cpu2);
	kvm_pthread_create(&self->busy.thread, NULL, busybody_worker, &self->busy);
	pin_self_to_cpu(cpu);
}

FIXTURE_TEARDOWN(busy)
{
	if (self->busy.fd >= 0)
		kvm_close(self->busy.fd);
	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

/* C4, C13: Retry conversions while pages get short references all the time. */
TEST_F(busy, retry)
{
	u64 retries, successes, min = -1, max = 0, sum = 0;
	struct timespec start, start_one;
	s64 max_ns = 0;
	int i;

	clock_gettime(CLOCK_MONOTONIC, &start);

	/* As many as fit into a second. */
	for (i = 0; i < 10 || !timespec_elapsed(start).tv_sec; i++) {
		host_faults(self->mem, 0, NR_PAGES);

		/* Mostly wait until the pages are in use. */
		successes = READ_ONCE(self->busy.successes);
		while (i % 4 && READ_ONCE(self->busy.successes) == successes)
			sched_yield();

		clock_gettime(CLOCK_MONOTONIC, &start_one);
		retries = retry_private(self->fd, 0, NR_PAGES);
		max_ns = max(max_ns, timespec_to_ns(timespec_elapsed(start_one)));

		min = min(min, retries);
		max = max(max, retries);
		sum += retries;

		if (!(i % 16))
			check_state(self->mem, ALL_PAGES);
		to_shared(self->fd, 0, NR_PAGES);
	}

	WRITE_ONCE(self->busy.stop, true);
	kvm_pthread_join(self->busy.thread, NULL);
	host_check(self->mem, 0, NR_PAGES, 1);

	TH_LOG("%d conversions, %lu laps, retries min/avg/max %lu/%lu.%02lu/%lu, %ld us at most",
	       i, self->busy.laps, min, sum / i, sum % i * 100 / i, max, max_ns / 1000);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
