// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what it costs to have memory in pieces, who pays for it, and how long others
 * wait for calls that take long.
 *
 * A process in a memory cgroup fragments the attributes of files as large as files can
 * be, by patterns of any period, until the cgroup's limit: that's refused, nobody is
 * killed for it, and it's given back.  Nothing but attributes takes memory then.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/align.h>
#include <linux/falloc.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define CHUNK_PAGES	(SZ_2M / PAGE_SIZE)

/*
 * What the cgroup may have in addition to what a VM takes: several times the 256 KiB
 * that a CPU puts aside, which it gives back when it gets to that, i.e. that may be in
 * any figure or not.
 */
#define REST		SZ_1M

/* Any odd number gives an order that visits every index of a power of two. */
#define SCATTER		0x9e3779b97f4a7c15ul

/* How long a thread may have to wait for one that is in the kernel, on the same CPU. */
#define MAX_GAP_NS	NSEC_PER_SEC

static u64 elapsed_ns(struct timespec start)
{
	return timespec_to_ns(timespec_elapsed(start));
}

/*
 * Somebody who wants to run on the CPU on which something else is done, no more
 * urgently than that.
 */
struct bystander {
	pthread_t thread;
	u64 max_gap_ns;
	u64 laps;
	bool stop;
};

static void *bystander_worker(void *arg)
{
	struct bystander *b = arg;
	struct timespec last;
	u64 ns;

	clock_gettime(CLOCK_MONOTONIC, &last);
	while (!READ_ONCE(b->stop)) {
		ns = elapsed_ns(last);
		clock_gettime(CLOCK_MONOTONIC, &last);
		b->max_gap_ns = max(b->max_gap_ns, ns);
		WRITE_ONCE(b->laps, b->laps + 1);
	}
	return NULL;
}

/* The thread inherits the CPU. */
static void bystander_start(struct bystander *b)
{
	pin_self_to_cpu(other_cpu(-1));
	memset(b, 0, sizeof(*b));
	kvm_pthread_create(&b->thread, NULL, bystander_worker, b);
	while (!READ_ONCE(b->laps))
		sched_yield();
}

static u64 bystander_stop(struct bystander *b)
{
	WRITE_ONCE(b->stop, true);
	kvm_pthread_join(b->thread, NULL);
	return b->max_gap_ns;
}

FIXTURE(limits) {
	char root[32];
	char path[64];
};

/* Ranges of @nr pages, every @period pages. */
FIXTURE_VARIANT(limits) {
	u64 size;
	u64 nr;
	u64 period;
	bool scatter;

	/* Close the file as it is then, instead of converting all of it. */
	bool close;
};

#define TIB		BIT_ULL(40)
#define LARGEST		(BIT_ULL(63) - PAGE_SIZE)

/*
 * All periods below a chunk's size need bits for the chunk, i.e. cost the same, and
 * nothing more for what else is converted in the chunk.
 */
FIXTURE_VARIANT_ADD(limits, page_of_each_2m) {
	.size = TIB,
	.nr = 1,
	.period = CHUNK_PAGES,
};

FIXTURE_VARIANT_ADD(limits, every_1m) {
	.size = TIB,
	.nr = CHUNK_PAGES / 2,
	.period = CHUNK_PAGES,
	.close = true,
};

FIXTURE_VARIANT_ADD(limits, every_2m) {
	.size = TIB,
	.nr = CHUNK_PAGES,
	.period = 2 * CHUNK_PAGES,
};

FIXTURE_VARIANT_ADD(limits, every_2m_scattered) {
	.size = TIB,
	.nr = CHUNK_PAGES,
	.period = 2 * CHUNK_PAGES,
	.scatter = true,
	.close = true,
};

FIXTURE_VARIANT_ADD(limits, every_2m_and_a_page) {
	.size = TIB,
	.nr = CHUNK_PAGES + 1,
	.period = 2 * CHUNK_PAGES,
	.close = true,
};

FIXTURE_VARIANT_ADD(limits, every_16m) {
	.size = TIB,
	.nr = 8 * CHUNK_PAGES,
	.period = 16 * CHUNK_PAGES,
};

FIXTURE_VARIANT_ADD(limits, pages_in_2_to_48) {
	.size = BIT_ULL(48),
	.nr = 1,
	.period = CHUNK_PAGES,
	.scatter = true,
	.close = true,
};

FIXTURE_VARIANT_ADD(limits, every_2m_in_2_to_48) {
	.size = BIT_ULL(48),
	.nr = CHUNK_PAGES,
	.period = 2 * CHUNK_PAGES,
	.scatter = true,
};

FIXTURE_VARIANT_ADD(limits, every_1g_in_largest) {
	.size = LARGEST,
	.nr = 512 * CHUNK_PAGES,
	.period = 1024 * CHUNK_PAGES,
	.scatter = true,
};

static const char *cgroup_file(const char *cgroup, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", cgroup, name);
	return path;
}

FIXTURE_SETUP(limits)
{
	strcpy(self->root, "/tmp/cgroup.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->root));
	ASSERT_EQ(0, mount("cgroup2", self->root, "cgroup2", 0, NULL));
	ASSERT_EQ(0, write_path(cgroup_file(self->root, "cgroup.subtree_control"), "+memory"));

	strcpy(self->path, cgroup_file(self->root, "gmem"));
	ASSERT_EQ(0, mkdir(self->path, 0755));
}

FIXTURE_TEARDOWN(limits)
{
	EXPECT_EQ(0, rmdir(self->path));
	EXPECT_EQ(0, umount(self->root));
	EXPECT_EQ(0, rmdir(self->root));
}

/*
 * The cgroup's files, held open: to open one at the limit takes memory, and so does it
 * to fail a test.
 */
static int max_fd, high_fd, current_fd;

static void write_fd(int fd, const char *value)
{
	if (pwrite(fd, value, strlen(value), 0) != strlen(value))
		_exit(KSFT_FAIL);
}

static void set_max(u64 bytes)
{
	char buf[32];

	snprintf(buf, sizeof(buf), "%lu", bytes);
	write_fd(max_fd, buf);
}

/* What is charged, with most of what CPUs have put aside for charges to come given back. */
static u64 charged_bytes(void)
{
	char buf[32] = {};

	write_fd(high_fd, "0");
	write_fd(high_fd, "max");
	TEST_ASSERT(pread(current_fd, buf, sizeof(buf) - 1, 0) > 0, "No memory.current");
	return strtoull(buf, NULL, 10);
}

/* Host-wide, as nobody else uses many of them meanwhile.  A node has 256 bytes. */
static u64 node_bytes(void)
{
	return slab_objects("maple_node") * 256;
}

/* Is the page private?  Allocates it if not. */
static bool page_is_private(int fd, u64 page)
{
	u8 *mem = __kvm_mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, fd, page * PAGE_SIZE);
	bool private = read_raises_sigbus(mem);

	kvm_munmap(mem, PAGE_SIZE);
	return private;
}

struct fragmenter {
	const FIXTURE_VARIANT(limits) * v;
	u64 bytes, node_bytes;	/* In use before anything is converted. */
	int fd;
};

/* Where the i-th range begins. */
static u64 range_start(struct fragmenter *f, u64 i)
{
	u64 nr = f->v->size / PAGE_SIZE / f->v->period, mask = BIT_ULL(63);

	if (!f->v->scatter)
		return i * f->v->period;

	while (mask > nr)
		mask /= 2;
	return (i * SCATTER & (mask - 1)) * f->v->period;
}

static int try_convert(struct fragmenter *f, u64 first, u64 nr, bool private)
{
	u64 error_offset = NO_ERROR_OFFSET;

	return __gmem_set_memory_attributes(f->fd, first * PAGE_SIZE, nr * PAGE_SIZE,
					    private ? PRIVATE : 0, &error_offset) ? errno : 0;
}

static void check_range(struct fragmenter *f, u64 i, bool private)
{
	u64 first = range_start(f, i), nr = f->v->nr;

	TEST_ASSERT(page_is_private(f->fd, first) == private &&
		    page_is_private(f->fd, first + nr - 1) == private,
		    "Range %lu at page 0x%lx should be %s", i, first,
		    private ? "private" : "shared");
	if (!private || nr < f->v->period)
		TEST_ASSERT(!page_is_private(f->fd, first + nr),
			    "What's behind range %lu should be shared", i);
}

/* Everything has been given back, but for what is the file's all the time. */
static void check_given_back(struct fragmenter *f)
{
	u64 limit = f->bytes + SZ_64K, bytes = settled(charged_bytes, limit);

	TEST_ASSERT(bytes <= limit, "%lu bytes are still charged", bytes - f->bytes);

	limit = f->node_bytes + SZ_64K;
	bytes = settled(node_bytes, limit);
	TEST_ASSERT(bytes <= limit, "%lu bytes of nodes are left", bytes - f->node_bytes);
}

/* Convert ranges until that's refused, and return how many were converted. */
static u64 fragment(struct fragmenter *f)
{
	u64 nr_pages = f->v->size / PAGE_SIZE, nr, charged, nodes, i;
	struct timespec start;
	bool free_is_free = true;
	int r = 0;
	u64 ns;

	set_max(f->bytes + REST);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (nr = 0; range_start(f, nr) + f->v->nr < nr_pages; nr++) {
		r = try_convert(f, range_start(f, nr), f->v->nr, true);
		if (r)
			break;
	}
	ns = elapsed_ns(start);

	/* Every other page of a chunk that has bits takes no memory. */
	for (i = 2; f->v->nr == 1 && i < CHUNK_PAGES; i += 2)
		free_is_free &= !try_convert(f, i, 1, true);
	write_fd(max_fd, "max");

	TEST_ASSERT_EQ(r, ENOMEM);
	TEST_ASSERT(free_is_free, "Bits that are there couldn't be changed");

	charged = charged_bytes() - f->bytes;
	nodes = node_bytes() - f->node_bytes;
	ksft_print_msg("%lu ranges, %lu ns each; each takes %lu bytes, and %lu bytes of nodes\n",
		       nr, ns / nr, charged / nr, nodes / nr);
	TEST_ASSERT(charged > REST / 4 && charged <= REST, "%lu bytes are charged", charged);
	TEST_ASSERT(nodes <= charged, "%lu bytes of nodes, %lu charged", nodes, charged);
	return nr;
}

/* Convert all of the file by one call, if need be with memory beyond the limit. */
static void convert_all(struct fragmenter *f, u64 nr)
{
	u64 nr_pages = f->v->size / PAGE_SIZE, ns, gap_ns;
	struct timespec start;
	struct bystander b;
	int r, r2 = 0;

	bystander_start(&b);
	set_max(charged_bytes());
	clock_gettime(CLOCK_MONOTONIC, &start);
	r = try_convert(f, 0, nr_pages, true);
	write_fd(max_fd, "max");
	if (r) {
		check_range(f, nr, false);
		clock_gettime(CLOCK_MONOTONIC, &start);
		r2 = try_convert(f, 0, nr_pages, true);
	}
	ns = elapsed_ns(start);
	gap_ns = bystander_stop(&b);

	ksft_print_msg("converted: %lu us, others waited up to %lu us; at the limit: %s\n",
		       ns / 1000, gap_ns / 1000, r ? strerror(r) : "done");
	TEST_ASSERT(!r || r == ENOMEM, "Unexpected errno %d", r);
	TEST_ASSERT_EQ(r2, 0);
	TEST_ASSERT(gap_ns < MAX_GAP_NS, "Others waited %lu us", gap_ns / 1000);

	TEST_ASSERT(page_is_private(f->fd, 0) && page_is_private(f->fd, nr_pages - 1) &&
		    page_is_private(f->fd, range_start(f, nr)), "Not all is private");
	check_given_back(f);
}

static void close_all(struct fragmenter *f)
{
	struct timespec start;
	struct bystander b;
	u64 ns, gap_ns;

	bystander_start(&b);
	clock_gettime(CLOCK_MONOTONIC, &start);
	kvm_close(f->fd);
	ns = elapsed_ns(start);
	gap_ns = bystander_stop(&b);

	ksft_print_msg("closed: %lu us, others waited up to %lu us\n", ns / 1000, gap_ns / 1000);
	TEST_ASSERT(gap_ns < MAX_GAP_NS, "Others waited %lu us", gap_ns / 1000);
	check_given_back(f);
}

/* What the VMM does, in the cgroup. */
static void exceed_limit(const FIXTURE_VARIANT(limits) * v, const char *cgroup)
{
	struct fragmenter f = { .v = v };
	struct bystander b;
	struct kvm_vm *vm;
	u64 nr, i;

	max_fd = open(cgroup_file(cgroup, "memory.max"), O_WRONLY);
	high_fd = open(cgroup_file(cgroup, "memory.high"), O_WRONLY);
	current_fd = open(cgroup_file(cgroup, "memory.current"), O_RDONLY);
	TEST_ASSERT(max_fd >= 0 && high_fd >= 0 && current_fd >= 0, "Failed to open files");

	/* Once, to have what is there for good. */
	vm = ____vm_create(in_place_shape);
	f.fd = vm_create_guest_memfd(vm, v->size, GMEM_FLAGS);
	TEST_ASSERT(!page_is_private(f.fd, 0), "The page should be shared");
	TEST_ASSERT_EQ(try_convert(&f, 0, 1, true), 0);
	TEST_ASSERT(page_is_private(f.fd, 0), "The page should be private");
	bystander_start(&b);
	bystander_stop(&b);
	kvm_close(f.fd);

	f.fd = vm_create_guest_memfd(vm, v->size, GMEM_FLAGS);
	f.node_bytes = settled(node_bytes, -1);
	f.bytes = settled(charged_bytes, -1);

	nr = fragment(&f);

	/* What had been converted is, and what was refused isn't. */
	for (i = 0; i < nr; i += nr / 50)
		check_range(&f, i, true);
	check_range(&f, nr - 1, true);
	check_range(&f, nr, false);
	check_range(&f, nr + 1, false);
	kvm_fallocate(f.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, v->size);

	if (!v->close)
		convert_all(&f, nr);
	close_all(&f);
	kvm_vm_free(vm);
}

/* C4, C5, C25 */
TEST_F(limits, fragments)
{
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		TEST_ASSERT_EQ(write_path(cgroup_file(self->path, "cgroup.procs"), "0"), 0);

		/* If somebody is to be killed, then this. */
		TEST_ASSERT_EQ(write_path("/proc/self/oom_score_adj", "1000"), 0);
		exceed_limit(variant, self->path);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, read_path(cgroup_file(self->path, "memory.events"), "oom_kill ", 10));
}

/* Calls that take long, by default a good part of a second. */
FIXTURE(long_calls) {
	u64 size;
};

FIXTURE_SETUP(long_calls)
{
	const char *mib = getenv("GMEM_MIB");

	self->size = (mib ? atoi_positive("GMEM_MIB", mib) : 64) * (u64)SZ_1M;
}

FIXTURE_TEARDOWN(long_calls)
{
}

/* To allocate and to free memory takes longer, and more so with a larger GMEM_MIB. */
#define LONG_CALLS_SECONDS	120

enum long_call {
	TO_PRIVATE,
	TO_SHARED,
	PUNCH_HOLE,
	NR_LONG_CALLS,
};

/* C25: Whoever else wants to run on the CPU doesn't wait for the end of a long call. */
TEST_F_TIMEOUT(long_calls, reschedules, LONG_CALLS_SECONDS)
{
	static const char * const names[] = { "to private", "to shared", "punch a hole" };
	const u64 size = self->size;
	struct timespec start;
	struct bystander b;
	struct kvm_vm *vm;
	u64 ns, gap_ns;
	int fd, call;
	u8 *mem;

	vm = ____vm_create(in_place_shape);
	fd = vm_create_guest_memfd(vm, size, GMEM_FLAGS);
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	kvm_madvise(mem, size, MADV_POPULATE_WRITE);

	for (call = 0; call < NR_LONG_CALLS; call++) {
		bystander_start(&b);
		clock_gettime(CLOCK_MONOTONIC, &start);
		if (call == PUNCH_HOLE)
			kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size);
		else
			gmem_set_memory_attributes(fd, 0, size, call == TO_PRIVATE ? PRIVATE : 0);
		ns = elapsed_ns(start);
		gap_ns = bystander_stop(&b);

		TH_LOG("%s, %lu MiB: %lu us, others waited up to %lu us", names[call],
		       size / SZ_1M, ns / 1000, gap_ns / 1000);
		EXPECT_LT(gap_ns, MAX_GAP_NS);
	}

	kvm_munmap(mem, size);
	kvm_close(fd);
	kvm_vm_free(vm);
}

/* Shared with the process that is killed. */
struct victim {
	struct kvm_memory_attributes2 attr;
	u64 ns;
	int fd;
	bool ready;
	bool go;
	bool converting;
};

static void __noreturn convert_until_killed(struct victim *victim)
{
	struct kvm_vm *vm = ____vm_create(in_place_shape);
	u64 size = victim->attr.size;
	struct timespec start;
	u8 *mem;

	prctl(PR_SET_PDEATHSIG, SIGKILL);

	victim->fd = vm_create_guest_memfd(vm, size, GMEM_FLAGS);
	mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, victim->fd);
	kvm_madvise(mem, size, MADV_POPULATE_WRITE);

	/* How long it takes, to be killed in the middle of it the next time. */
	if (!victim->ns) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		gmem_set_private(victim->fd, 0, size);
		victim->ns = elapsed_ns(start);
		gmem_set_shared(victim->fd, 0, size);
		kvm_madvise(mem, size, MADV_POPULATE_WRITE);
	}

	WRITE_ONCE(victim->ready, true);
	while (!READ_ONCE(victim->go))
		sched_yield();
	WRITE_ONCE(victim->converting, true);
	set_attributes(victim->fd, &victim->attr);
	for (;;)
		pause();
}

/*
 * C4, C5, C6, C25: A process that is killed in the middle of a long call leaves it soon,
 * and nothing is converted.
 */
TEST_F_TIMEOUT(long_calls, killed, LONG_CALLS_SECONDS)
{
	int status, nr_interrupted = 0, i;
	const u64 size = self->size;
	struct timespec start;
	struct victim *victim;
	u64 ns, offset;
	pid_t pid;
	u8 *mem;

	require_in_place_vm();
	victim = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	for (i = 0; i < 6 && nr_interrupted < 2; i++) {
		victim->ready = false;
		victim->go = false;
		victim->converting = false;
		victim->attr.size = size;
		victim->attr.attributes = PRIVATE;
		victim->attr.error_offset = NO_ERROR_OFFSET;

		/* A VM of its own, and common file descriptors. */
		pid = syscall(__NR_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
		if (!pid)
			convert_until_killed(victim);
		while (!READ_ONCE(victim->ready)) {
			ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
			sched_yield();
		}
		mem = kvm_mmap(size, PROT_READ, MAP_SHARED, victim->fd);

		WRITE_ONCE(victim->go, true);
		while (!READ_ONCE(victim->converting))
			sched_yield();
		usleep(victim->ns / 1000 * (1 + i % 3) / 8);

		/* error_offset is what the process has to say before it dies. */
		clock_gettime(CLOCK_MONOTONIC, &start);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		while (READ_ONCE(victim->attr.error_offset) == NO_ERROR_OFFSET &&
		       !waitpid(pid, &status, WNOHANG))
			sched_yield();
		ns = elapsed_ns(start);
		waitpid(pid, &status, 0);

		if (victim->attr.error_offset != NO_ERROR_OFFSET) {
			nr_interrupted++;
			TH_LOG("At %lu of %lu MiB: left the call after %lu us, dead after %lu us",
			       (u64)victim->attr.error_offset / SZ_1M, size / SZ_1M,
			       ns / 1000, elapsed_ns(start) / 1000);
			EXPECT_LT(ns, NSEC_PER_SEC);
			ASSERT_GT(size, victim->attr.error_offset);
			for (offset = 0; offset < size; offset += SZ_1M - PAGE_SIZE)
				ASSERT_FALSE(read_raises_sigbus(mem + offset));
			ASSERT_FALSE(read_raises_sigbus(mem + size - PAGE_SIZE));
		}

		kvm_munmap(mem, size);
		kvm_close(victim->fd);
	}
	EXPECT_LE(2, nr_interrupted);
	kvm_munmap(victim, PAGE_SIZE);
}

int main(int argc, char *argv[])
{
	require_in_place_vm();
	__TEST_REQUIRE(!geteuid() && has_slab_objects("maple_node"),
		       "Needs root and CONFIG_SLUB_DEBUG");

	return test_harness_run(argc, argv);
}
