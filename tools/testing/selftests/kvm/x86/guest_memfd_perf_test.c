// SPDX-License-Identifier: GPL-2.0-only
/*
 * A benchmark of memory that is converted between private and shared: in place,
 * and as VMs do it that aren't in in-place mode, i.e. with a second memory for what
 * is shared, where the page that was left is freed and the other one allocated.
 *
 * Each row is measured in a process and a VM of its own, in all modes that the
 * kernel has.  Nothing is subtracted from what is measured; the rows named floor.*
 * are what there is to subtract.  Times are worth most where they don't depend on
 * what else a machine does, e.g. under QEMU with -icount.
 *
 * Prints a line for each row, its words separated by tabs:
 *
 *	row ID MODE PAGES CALLS NS NS/CALL NS/PAGE VALUE UNIT
 *
 * PAGES are those of one call.  NS are those of all calls, NS/CALL is the median of
 * the parts that were measured separately, mostly single calls.  What isn't a time
 * is in VALUE, in UNIT; what a row doesn't have is "-".
 */
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/membarrier.h>
#include <linux/sizes.h>

#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* The guest maps no more than that. */
#define GUEST_MAX	((u64)SZ_2G)

/* As far as memslots reach on hosts with 40 bits of physical addresses. */
#define SLOT_MAX	(512ul * SZ_1G)

#define SZ_1T		(1024ul * SZ_1G)

/*
 * What is converted is part of a file and of a memslot with all of an aligned GiB:
 * KVM keeps track of what can be mapped with how large a page, and small VMs would
 * do without the expensive part of that.
 */
#define FILE_SIZE	((u64)SZ_1G)

#define MAX_VCPUS	8

enum gmem_mode {
	VM_MODE,
	IN_PLACE,
	NR_MODES,
};

static const char * const mode_names[] = {
	[VM_MODE] = "vm",
	[IN_PLACE] = "in-place",
};

/* What there is of a range before it is converted. */
enum state {
	NONE,		/* It was never touched. */
	TABLES,		/* Page tables, but no pages. */
	POPULATED,	/* Pages that nobody has mapped. */
	HOST,		/* Pages mapped by the host, */
	GUEST,		/* by the guest, */
	BOTH,		/* and by both. */
	NR_STATES,
};

static const char * const state_names[] = {
	[NONE] = "none",
	[TABLES] = "tables",
	[POPULATED] = "populated",
	[HOST] = "host",
	[GUEST] = "guest",
	[BOTH] = "both",
};

struct row {
	char id[64];
	void (*measure)(const struct row *row);
	enum gmem_mode mode;
	u64 size;
	u64 arg;
	enum state state;
	bool private;
	bool write;
	bool back;
	bool slow;	/* only with -a */
	bool only;	/* not in the other mode */
};

static struct row *rows;
static int nr_rows;
static bool all;

/* --- time --- */

#define MAX_SECTIONS	64

static struct timespec started;
static double ns_per_call[MAX_SECTIONS];
static u64 total_ns;
static u64 nr_calls;
static int nr_sections;

static u64 now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

/*
 * What is measured is between two NOPs that a profiler, e.g. a plugin of QEMU's,
 * can find.
 */
static __always_inline void begin(void)
{
	clock_gettime(CLOCK_MONOTONIC, &started);
	asm volatile(".byte 0x0f,0x1f,0x80,0x42,0x4d,0x47,0x31" ::: "memory");
}

static __always_inline void end(u64 calls)
{
	struct timespec ended;

	asm volatile(".byte 0x0f,0x1f,0x80,0x42,0x4d,0x47,0x32" ::: "memory");
	clock_gettime(CLOCK_MONOTONIC, &ended);
	ended = timespec_sub(ended, started);
	ns_per_call[nr_sections++ % MAX_SECTIONS] = (double)timespec_to_ns(ended) / calls;
	total_ns += timespec_to_ns(ended);
	nr_calls += calls;
}

static void forget(void)
{
	total_ns = 0;
	nr_calls = 0;
	nr_sections = 0;
}

static int compare(const void *a, const void *b)
{
	const double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

/* An interrupt, or a worker of the kernel's, falls into one of them now and then. */
static double median_ns_per_call(void)
{
	const int nr = min(nr_sections, MAX_SECTIONS);

	qsort(ns_per_call, nr, sizeof(ns_per_call[0]), compare);
	return ns_per_call[nr / 2];
}

static void print_ns(const struct row *row, const char *suffix, u64 pages)
{
	const double ns = median_ns_per_call();

	TEST_ASSERT(nr_calls, "Nothing was measured for %s", row->id);

	printf("row\t%s%s\t%s\t%lu\t%lu\t%lu\t%.1f\t%.2f\t-\t-\n", row->id, suffix,
	       mode_names[row->mode], pages, nr_calls, total_ns, ns, ns / pages);
	forget();
}

static void print_value(const struct row *row, const char *suffix, u64 pages,
			double value, const char *unit)
{
	printf("row\t%s%s\t%s\t%lu\t-\t-\t-\t-\t%.4f\t%s\n", row->id, suffix,
	       mode_names[row->mode], pages, value, unit);
}

/*
 * --- a VM ---
 *
 * What is measured does without TEST_ASSERT(): its arguments are evaluated in any
 * case, and strerror() takes as long as half an ioctl.
 */

struct bench {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[MAX_VCPUS];
	enum gmem_mode mode;
	u64 size;

	int fd;		/* the guest_memfd */
	int shared_fd;	/* where shared memory is: the same, or a memfd */
	u8 *mem;	/* and its mapping */
};

#define GUEST_PORT	0x80

/* Each vCPU touches a word of each page, or of one in each stride, for each KVM_RUN. */
static struct {
	u64 gva;
	u64 nr;
	u64 stride;
} guest_ranges[MAX_VCPUS];

static void guest_code(int index)
{
	u64 i;

	for (;;) {
		for (i = 0; i < READ_ONCE(guest_ranges[index].nr); i++)
			WRITE_ONCE(*(u64 *)(guest_ranges[index].gva +
					   i * guest_ranges[index].stride), i);
		/* The cheapest exit to userspace: a ucall would take longer than a fault. */
		asm volatile("out %%al, %0" : : "N"(GUEST_PORT), "a"(0));
	}
}

static void guest_set_stride(struct bench *b, int vcpu, u64 offset, u64 size, u64 stride)
{
	guest_ranges[vcpu].gva = GMEM_GPA + offset;
	guest_ranges[vcpu].nr = size / stride;
	guest_ranges[vcpu].stride = stride;
	sync_global_to_guest(b->vm, guest_ranges[vcpu]);
}

static void guest_set(struct bench *b, int vcpu, u64 offset, u64 size)
{
	guest_set_stride(b, vcpu, offset, size, PAGE_SIZE);
}

static void run_vcpu(struct kvm_vcpu *vcpu)
{
	if (_vcpu_run(vcpu))
		TEST_FAIL("KVM_RUN failed, errno: %d (%s)", errno, strerror(errno));
}

static void guest_check_exit(struct bench *b, int vcpu)
{
	TEST_ASSERT_KVM_EXIT_REASON(b->vcpus[vcpu], KVM_EXIT_IO);
	TEST_ASSERT_EQ(b->vcpus[vcpu]->run->io.port, GUEST_PORT);
}

static void guest_touch(struct bench *b, u64 offset, u64 size)
{
	guest_set(b, 0, offset, size);
	run_vcpu(b->vcpus[0]);
	guest_check_exit(b, 0);
}

static void host_touch_stride(struct bench *b, u64 offset, u64 size, u64 stride)
{
	u64 i;

	for (i = offset; i + stride <= offset + size; i += stride)
		WRITE_ONCE(*(u64 *)(b->mem + i), i);
}

static void host_touch(struct bench *b, u64 offset, u64 size)
{
	host_touch_stride(b, offset, size, PAGE_SIZE);
}

static int __convert(struct bench *b, u64 offset, u64 size, bool private, u64 flags)
{
	const u64 attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
	struct kvm_memory_attributes attr = {
		.address = GMEM_GPA + offset,
		.size = size,
		.attributes = attributes,
		.flags = flags,
	};
	struct kvm_memory_attributes2 attr2 = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
		.flags = flags,
	};

	if (b->mode == IN_PLACE)
		return ioctl(b->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr2);

	return ioctl(b->vm->fd, KVM_SET_MEMORY_ATTRIBUTES, &attr);
}

static void convert(struct bench *b, u64 offset, u64 size, bool private)
{
	if (__convert(b, offset, size, private, 0))
		TEST_FAIL("Failed to make [0x%lx, 0x%lx) %s, errno: %d (%s)", offset,
			  offset + size, private ? "private" : "shared", errno,
			  strerror(errno));
}

static int backing(struct bench *b, bool private)
{
	return private ? b->fd : b->shared_fd;
}

static void punch(struct bench *b, u64 offset, u64 size, bool private)
{
	if (fallocate(backing(b, private), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      offset, size))
		TEST_FAIL("No hole at [0x%lx, 0x%lx), errno: %d (%s)", offset,
			  offset + size, errno, strerror(errno));
}

/* What is left to be done if a page that changes sides is another page. */
static void discard(struct bench *b, u64 offset, u64 size, bool private)
{
	if (b->mode == VM_MODE)
		punch(b, offset, size, private);
}

/* Bring a range, which is private or shared, into a state. */
static void prepare(struct bench *b, u64 offset, u64 size, bool private, enum state state)
{
	if (state == NONE)
		return;

	if (state == POPULATED)
		kvm_fallocate(backing(b, private), FALLOC_FL_KEEP_SIZE, offset, size);
	if (state == GUEST || state == BOTH || state == TABLES)
		guest_touch(b, offset, size);
	if (state == HOST || state == BOTH || (state == TABLES && !private))
		host_touch(b, offset, size);
	if (state == TABLES)
		punch(b, offset, size, private);
}

static void create_vm(struct bench *b, enum gmem_mode mode, int nr_vcpus)
{
	const struct vm_shape shape = {
		.mode = VM_MODE_DEFAULT,
		.type = KVM_X86_SW_PROTECTED_VM,
		.gmem_in_place = mode == IN_PLACE,
	};
	int i;

	b->mode = mode;
	if (!nr_vcpus) {
		b->vm = ____vm_create(shape);
		return;
	}

	b->vm = __vm_create_with_vcpus(shape, nr_vcpus, SZ_4M / PAGE_SIZE, guest_code,
				       b->vcpus);
	for (i = 0; i < nr_vcpus; i++)
		vcpu_args_set(b->vcpus[i], 1, (u64)i);
}

/* A file, which is all private or all shared, without memslots. */
static void create_file(struct bench *b, u64 size, bool private)
{
	u64 flags = 0;

	b->size = size;
	if (b->mode == IN_PLACE)
		flags = GUEST_MEMFD_FLAG_MMAP | (private ? 0 : GUEST_MEMFD_FLAG_INIT_SHARED);
	b->fd = vm_create_guest_memfd(b->vm, size, flags);
	b->shared_fd = b->mode == IN_PLACE ? b->fd : kvm_memfd_alloc(size, false);

	if (b->mode == VM_MODE && private)
		convert(b, 0, size, true);
}

static void create(struct bench *b, enum gmem_mode mode, u64 size, bool private, int nr_vcpus)
{
	const u64 slot_size = min(size, SLOT_MAX);
	int i;

	create_vm(b, mode, nr_vcpus);
	create_file(b, size, private);

	/* Only once: a page that is mapped twice takes more to unmap. */
	b->mem = kvm_mmap(slot_size, PROT_READ | PROT_WRITE, MAP_SHARED, b->shared_fd);
	vm_set_user_memory_region2(b->vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD, GMEM_GPA, slot_size,
				   b->mem, b->fd, 0);
	virt_map_level(b->vm, GMEM_GPA, GMEM_GPA, min(slot_size, GUEST_MAX), PG_LEVEL_2M);

	/* Have the guest's own memory faulted in. */
	for (i = 0; i < nr_vcpus; i++) {
		guest_set(b, i, 0, 0);
		run_vcpu(b->vcpus[i]);
		guest_check_exit(b, i);
	}
}

/* --- floors --- */

static void measure_clock(const struct row *row)
{
	int i;

	for (i = 0; i < 64; i++) {
		begin();
		end(1);
	}
	print_ns(row, "", 1);
}

static void measure_ioctl(const struct row *row)
{
	struct bench b;
	int i, r = 0;

	create(&b, row->mode, SZ_2M, false, 1);

	begin();
	for (i = 0; i < 64; i++)
		r |= __convert(&b, 0, PAGE_SIZE, true, -1ull) + 1;
	end(i);
	TEST_ASSERT(!r && errno == EINVAL, "No flag is valid");
	print_ns(row, "", 1);
}

static void measure_run(const struct row *row)
{
	struct bench b;
	int i;

	create(&b, row->mode, SZ_2M, false, 1);

	for (i = 0; i < 16; i++) {
		begin();
		run_vcpu(b.vcpus[0]);
		end(1);
		guest_check_exit(&b, 0);
	}
	print_ns(row, "", 1);
}

/* --- conversions --- */

static int nr_rounds(u64 size)
{
	return size >= SZ_64M ? 1 : size >= SZ_2M ? 4 : 16;
}

/*
 * A range leaves the state that its file has, or returns to it (row->back), and the
 * other way again, which isn't measured.
 */
static void measure_convert(const struct row *row)
{
	const int nr = nr_rounds(row->size);
	const u64 offset = row->size >= SZ_64M ? 0 : row->size >= SZ_2M ? SZ_8M : SZ_8M + SZ_1M;
	struct bench b;
	int i;

	create(&b, row->mode, FILE_SIZE, row->private == row->back, 1);
	if (row->back)
		convert(&b, offset, row->size, !row->private);

	/* The first one of several doesn't count. */
	for (i = nr > 1 ? -1 : 0; i < nr; i++) {
		prepare(&b, offset, row->size, !row->private, row->state);
		if (i < 0) {
			convert(&b, offset, row->size, row->private);
		} else {
			begin();
			convert(&b, offset, row->size, row->private);
			end(1);
		}
		convert(&b, offset, row->size, !row->private);
	}
	print_ns(row, "", row->size / PAGE_SIZE);
}

static void measure_alternate(const struct row *row)
{
	const u64 size = all ? SZ_8M : SZ_2M;
	struct bench b;
	u64 i;

	create(&b, row->mode, FILE_SIZE, !row->private, 1);
	prepare(&b, SZ_8M, size, !row->private, row->state);

	begin();
	for (i = 0; i < size; i += 2 * PAGE_SIZE)
		convert(&b, SZ_8M + i, PAGE_SIZE, row->private);
	end(size / PAGE_SIZE / 2);
	print_ns(row, "", 1);
}

/*
 * Not only the conversion, but all that has to be done until the other side can
 * use what it got.
 */
static void measure_work(const struct row *row)
{
	const int nr = nr_rounds(row->size);
	const u64 offset = SZ_8M;
	struct bench b;
	int i;

	create(&b, row->mode, FILE_SIZE, !row->private, 1);

	for (i = -1; i < nr; i++) {
		prepare(&b, offset, row->size, !row->private, row->private ? BOTH : GUEST);
		guest_set(&b, 0, offset, row->size);

		/* The first one doesn't count. */
		if (i == 0)
			forget();
		begin();
		convert(&b, offset, row->size, row->private);
		discard(&b, offset, row->size, !row->private);
		if (row->private)
			run_vcpu(b.vcpus[0]);
		else
			host_touch(&b, offset, row->size);
		end(1);
		if (row->private)
			guest_check_exit(&b, 0);

		convert(&b, offset, row->size, !row->private);
		discard(&b, offset, row->size, row->private);
	}
	print_ns(row, "", row->size / PAGE_SIZE);
}

/*
 * A guest shares a buffer, the host writes to it, and the guest takes it back and
 * looks at it.  (Without in-place conversion, what the host wrote is lost then, and
 * a guest would have to copy it, which isn't counted.)
 */
static void measure_round_trip(const struct row *row)
{
	const int nr = nr_rounds(row->size);
	const u64 offset = SZ_8M;
	struct bench b;
	int i;

	create(&b, row->mode, FILE_SIZE, true, 1);
	guest_touch(&b, offset, row->size);

	for (i = -1; i < nr; i++) {
		/* The first one doesn't count. */
		if (i == 0)
			forget();
		begin();
		convert(&b, offset, row->size, false);
		discard(&b, offset, row->size, true);
		host_touch(&b, offset, row->size);
		convert(&b, offset, row->size, true);
		discard(&b, offset, row->size, false);
		run_vcpu(b.vcpus[0]);
		end(1);
		guest_check_exit(&b, 0);
	}
	print_ns(row, "", row->size / PAGE_SIZE);
}

/* --- faults --- */

#define FAULT_SIZE	SZ_8M

/* No fault has a neighbor of its own then. */
#define FAULT_STRIDE	(SZ_64K + PAGE_SIZE)

enum fault {
	NEW,		/* of pages that are yet to be allocated, */
	ALLOCATED,	/* to be cleared, */
	PRESENT,	/* to be mapped again, one after the other, */
	APART,		/* or here and there. */
	NR_FAULTS,
};

static const char * const fault_names[] = {
	[NEW] = "new",
	[ALLOCATED] = "allocated",
	[PRESENT] = "present",
	[APART] = "apart",
};

static void set_slot(struct bench *b, u64 size)
{
	vm_set_user_memory_region2(b->vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD, GMEM_GPA, size,
				   b->mem, b->fd, 0);
}

static void create_faults(struct bench *b, const struct row *row)
{
	create(b, row->mode, SZ_64M, row->private, 1);

	if (row->arg == ALLOCATED)
		prepare(b, SZ_8M, FAULT_SIZE, row->private, POPULATED);
	if (row->arg < PRESENT)
		return;

	/* Have the pages used, and keep them, but nobody's mapping of them. */
	guest_touch(b, SZ_8M, FAULT_SIZE);
	set_slot(b, 0);
	set_slot(b, SZ_64M);
	guest_touch(b, 0, 0);
	if (!row->private) {
		host_touch(b, SZ_8M, FAULT_SIZE);
		TEST_ASSERT(!madvise(b->mem, SZ_64M, MADV_DONTNEED), "madvise() failed");
	}
}

static u64 fault_stride(const struct row *row)
{
	return row->arg == APART ? FAULT_STRIDE : PAGE_SIZE;
}

static void measure_guest_fault(const struct row *row)
{
	struct bench b;

	create_faults(&b, row);
	guest_set_stride(&b, 0, SZ_8M, FAULT_SIZE, fault_stride(row));

	begin();
	run_vcpu(b.vcpus[0]);
	end(1);
	guest_check_exit(&b, 0);
	print_ns(row, "", FAULT_SIZE / fault_stride(row));
}

static void measure_host_fault(const struct row *row)
{
	const u64 stride = fault_stride(row);
	struct bench b;
	u64 i;

	create_faults(&b, row);

	begin();
	if (row->write) {
		host_touch_stride(&b, SZ_8M, FAULT_SIZE, stride);
	} else {
		for (i = 0; i + stride <= FAULT_SIZE; i += stride)
			READ_ONCE(*(u64 *)(b.mem + SZ_8M + i));
	}
	end(1);
	print_ns(row, "", FAULT_SIZE / stride);
}

static void measure_pre_fault(const struct row *row)
{
	struct kvm_pre_fault_memory range = {
		.gpa = GMEM_GPA + SZ_8M,
		.size = FAULT_SIZE,
	};
	struct bench b;
	int r;

	create_faults(&b, row);

	begin();
	do {
		r = ioctl(b.vcpus[0]->fd, KVM_PRE_FAULT_MEMORY, &range);
	} while (!r && range.size);
	end(1);
	TEST_ASSERT(!r, KVM_IOCTL_ERROR(KVM_PRE_FAULT_MEMORY, r));
	print_ns(row, "", FAULT_SIZE / PAGE_SIZE);
}

/* --- memory --- */

static char cgroup_root[32];
static char cgroup[64];
static bool cgroup_has_memory;

static u64 cgroup_read(const char *file, const char *key)
{
	char path[128], name[64];
	u64 val = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	f = fopen(path, "r");
	TEST_ASSERT(f, "Failed to open %s", path);
	if (!key)
		TEST_ASSERT(fscanf(f, "%lu", &val) == 1, "Failed to read %s", path);
	while (key && fscanf(f, "%63s %lu", name, &val) == 2 && strcmp(name, key))
		val = 0;
	fclose(f);

	return val;
}

static void cgroup_write(const char *dir, const char *file, const char *val)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, val, strlen(val)) == strlen(val),
		    "Failed to write to %s, errno: %d (%s)", path, errno, strerror(errno));
	kvm_close(fd);
}

static bool cgroup_controls_memory(void)
{
	char path[128], name[64];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", cgroup_root);
	f = fopen(path, "r");
	TEST_ASSERT(f, "Failed to open %s", path);
	while (!found && fscanf(f, "%63s", name) == 1)
		found = !strcmp(name, "memory");
	fclose(f);

	return found;
}

/* Have this process, i.e. this row, charged for its memory in a cgroup of its own. */
static void cgroup_enter(void)
{
	strcpy(cgroup_root, "/tmp/cgroup.XXXXXX");
	TEST_ASSERT(mkdtemp(cgroup_root) && !mount("cgroup2", cgroup_root, "cgroup2", 0, NULL),
		    "Failed to mount cgroup2, errno: %d (%s)", errno, strerror(errno));
	cgroup_has_memory = cgroup_controls_memory();
	if (!cgroup_has_memory)
		cgroup_write(cgroup_root, "cgroup.subtree_control", "+memory");

	snprintf(cgroup, sizeof(cgroup), "%s/gmem_perf.%d", cgroup_root, getpid());
	TEST_ASSERT(!mkdir(cgroup, 0755), "Failed to create %s", cgroup);
	cgroup_write(cgroup, "cgroup.procs", "0");
}

/*
 * The cgroup stays for as long as anything in it is charged: nobody waits for that.
 * Have the next rows, in whatever cgroup they run, not be charged if this one's
 * siblings weren't before.
 */
static void cgroup_leave(void)
{
	cgroup_write(cgroup_root, "cgroup.procs", "0");
	rmdir(cgroup);
	if (!cgroup_has_memory)
		cgroup_write(cgroup_root, "cgroup.subtree_control", "-memory");
	umount2(cgroup_root, MNT_DETACH);
	rmdir(cgroup_root);
}

/*
 * All of a guest's memory is private and in use.  Then it shares a part of it (in
 * per cent), in blocks that are as far apart as they can be, for the host to write
 * to, takes them back and uses them, and shares others.  At most, that takes more
 * if its host keeps what it doesn't need (row->write), as hosts do that can't punch
 * holes, e.g. because the memory is pinned.
 */
static void measure_memory(const struct row *row)
{
	const u64 size = all ? SZ_128M : SZ_32M, block = row->size;
	const u64 stride = max(block * 100 / row->arg, 2 * block);
	const double pages = size / PAGE_SIZE;
	u64 i, round, empty, steady;
	struct bench b;

	cgroup_enter();
	create(&b, row->mode, size, true, 1);
	empty = cgroup_read("memory.current", NULL);
	guest_touch(&b, 0, size);

	for (round = 0; round < 2; round++) {
		for (i = round * block; i + block <= size; i += stride) {
			convert(&b, i, block, false);
			host_touch(&b, i, block);
			if (!row->write)
				discard(&b, i, block, true);
		}
		if (round)
			break;
		for (i = 0; i + block <= size; i += stride) {
			convert(&b, i, block, true);
			guest_touch(&b, i, block);
			if (!row->write)
				discard(&b, i, block, false);
		}
	}
	steady = cgroup_read("memory.current", NULL) - empty;
	print_value(row, ".steady", pages, (double)steady / size, "x");
	print_value(row, ".peak", pages,
		    (double)(cgroup_read("memory.peak", NULL) - empty) / size, "x");
	cgroup_leave();
}

/* Bytes in use in all slab caches. */
static u64 slab_bytes(void)
{
	static const char dir[] = "/sys/kernel/slab";
	u64 objects, size, bytes = 0;
	char path[384], buf[32];
	struct dirent *entry;
	struct stat st;
	FILE *f;
	DIR *d;
	int fd;

	d = opendir(dir);
	TEST_ASSERT(d, "Failed to open %s", dir);
	while ((entry = readdir(d))) {
		/* Caches that were merged have several names. */
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		if (entry->d_name[0] == '.' || lstat(path, &st) || !S_ISDIR(st.st_mode))
			continue;

		/* Take from CPUs what they have put aside. */
		snprintf(path, sizeof(path), "%s/%s/shrink", dir, entry->d_name);
		fd = open(path, O_WRONLY);
		if (fd < 0)
			continue;
		TEST_ASSERT(write(fd, "1", 1) == 1, "Failed to write to %s", path);
		close(fd);

		snprintf(path, sizeof(path), "%s/%s/objects", dir, entry->d_name);
		f = fopen(path, "r");
		TEST_ASSERT(f && fscanf(f, "%lu", &objects) == 1, "Failed to read %s", path);
		fclose(f);
		snprintf(path, sizeof(path), "%s/%s/slab_size", dir, entry->d_name);
		f = fopen(path, "r");
		TEST_ASSERT(f && fgets(buf, sizeof(buf), f), "Failed to read %s", path);
		fclose(f);
		size = strtoul(buf, NULL, 0);
		bytes += objects * size;
	}
	closedir(d);

	return bytes;
}

/* What is to be freed is freed a while, i.e. an RCU grace period or two, later. */
static void settle(void)
{
	int i;

	for (i = 0; i < 3; i++) {
		TEST_ASSERT(!syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0),
			    __KVM_SYSCALL_ERROR("membarrier()", -1));
		sleep(2);
	}
}

enum pattern {
	UNIFORM,	/* all private */
	CLUSTERED,	/* private and shared ranges of 32 pages on average */
	RANDOM,		/* each page, by chance */
	ALTERNATING,	/* every other page */
	NR_PATTERNS,
};

static const char * const pattern_names[] = {
	[UNIFORM] = "uniform",
	[CLUSTERED] = "clustered",
	[RANDOM] = "random",
	[ALTERNATING] = "alternating",
};

static u64 random_u64(void)
{
	static u64 seed = 1;

	seed = seed * 6364136223846793005ul + 1442695040888963407ul;
	return seed >> 33;
}

static void convert_pattern(struct bench *b, enum pattern pattern)
{
	u64 i, nr = b->size / PAGE_SIZE, len;

	switch (pattern) {
	case UNIFORM:
		convert(b, 0, b->size, true);
		break;
	case CLUSTERED:
		for (i = 0; i < nr; i += len + 1 + random_u64() % 63) {
			len = min(1 + random_u64() % 63, nr - i);
			convert(b, i * PAGE_SIZE, len * PAGE_SIZE, true);
		}
		break;
	case RANDOM:
		for (i = 0; i < nr; i++)
			if (random_u64() & 1)
				convert(b, i * PAGE_SIZE, PAGE_SIZE, true);
		break;
	case ALTERNATING:
		for (i = 0; i < nr; i += 2)
			convert(b, i * PAGE_SIZE, PAGE_SIZE, true);
		break;
	default:
		TEST_FAIL("Unknown pattern %d", pattern);
	}
}

/*
 * What it takes to remember which pages are private, in a file that was never
 * touched: objects in use in all slab caches, and what of it is charged.
 */
static void measure_bookkeeping(const struct row *row)
{
	const u64 size = all ? SZ_1G : SZ_128M;
	const u64 pages = size / PAGE_SIZE;
	u64 charged, bytes;
	struct bench b;

	cgroup_enter();
	create_vm(&b, row->mode, 0);
	create_file(&b, size, false);
	convert(&b, 0, PAGE_SIZE, true);
	convert(&b, 0, PAGE_SIZE, false);

	/* Files in sysfs take memory when they are looked at first. */
	slab_bytes();
	settle();
	bytes = slab_bytes();
	charged = cgroup_read("memory.stat", "slab");
	convert_pattern(&b, row->arg);
	settle();
	bytes = slab_bytes() - bytes;
	charged = cgroup_read("memory.stat", "slab") - charged;

	print_value(row, "", pages, (double)(s64)bytes / pages, "B/page");
	print_value(row, ".charged", pages, (double)(s64)charged / pages, "B/page");
	cgroup_leave();
}

/* --- growth --- */

/* All of a VM that was never touched, in one call. */
static void measure_growth_size(const struct row *row)
{
	struct bench b;

	create(&b, row->mode, max_t(u64, row->size, SZ_2M), false, 1);

	begin();
	convert(&b, 0, row->size, true);
	end(1);
	print_ns(row, "", row->size / PAGE_SIZE);
}

static void measure_one_page(struct bench *b, u64 offset)
{
	int i;

	for (i = 0; i < 16; i++) {
		begin();
		convert(b, offset, PAGE_SIZE, true);
		end(1);
		convert(b, offset, PAGE_SIZE, false);
	}
}

/* One page of a VM that was never touched. */
static void measure_growth_vm(const struct row *row)
{
	struct bench b;

	create(&b, row->mode, row->size, false, 1);
	measure_one_page(&b, row->size / 4 + PAGE_SIZE);
	print_ns(row, "", 1);
}

#define RANGES_SIZE	(8ul * SZ_1G)

static void create_ranges(struct bench *b, const struct row *row)
{
	u64 i;

	create_vm(b, row->mode, 0);
	create_file(b, RANGES_SIZE, false);
	for (i = 1; i < row->arg; i += 2)
		convert(b, i * PAGE_SIZE, PAGE_SIZE, true);
}

/*
 * One page of a file that is in pieces elsewhere, and the end of that file and of
 * its VM.  (In VM mode, the latter has the pieces.)
 */
static void measure_growth_ranges(const struct row *row)
{
	struct bench b;

	create_ranges(&b, row);
	measure_one_page(&b, RANGES_SIZE - SZ_1G);
	print_ns(row, ".page", 1);

	begin();
	close(b.fd);
	end(1);
	print_ns(row, ".close", row->arg);

	begin();
	kvm_vm_free(b.vm);
	end(1);
	print_ns(row, ".destroy", row->arg);
}

/* All pieces in one call. */
static void measure_growth_all(const struct row *row)
{
	struct bench b;

	create_ranges(&b, row);
	begin();
	convert(&b, 0, row->arg * PAGE_SIZE, true);
	end(1);
	print_ns(row, "", row->arg);
}

/* A file with several memslots: one page of it, and all of it. */
static void measure_growth_slots(const struct row *row)
{
	const u64 size = SZ_64M, slot_size = size / row->arg;
	struct bench b;
	u64 i;

	create_vm(&b, row->mode, 1);
	create_file(&b, size, false);
	b.mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, b.shared_fd);
	for (i = 0; i < row->arg; i++)
		vm_set_user_memory_region2(b.vm, GMEM_SLOT + i, KVM_MEM_GUEST_MEMFD,
					   GMEM_GPA + i * slot_size, slot_size,
					   b.mem + i * slot_size, b.fd, i * slot_size);

	measure_one_page(&b, size / 2 + PAGE_SIZE);
	print_ns(row, ".page", 1);

	begin();
	convert(&b, 0, size, true);
	end(1);
	print_ns(row, ".all", size / PAGE_SIZE);
}

/* --- who stands in whose way, on two CPUs --- */

#define AREA_SIZE	SZ_256M

static int cpu1, cpu2;

#define NR_CONVERSIONS	16

struct waiter {
	struct bench *b;
	bool host;
	bool stop;
	/* Odd while the range is converted. */
	int phase;
	u64 max_ns[2 * NR_CONVERSIONS + 1];
	u64 nr_faults;
};

/* Fault in pages, one at a time, and remember what took longest. */
static void *waiter_fn(void *arg)
{
	struct waiter *w = arg;
	int phase;
	u64 i, ns;

	pin_self_to_cpu(cpu2);
	/* Steps that are too long for a fault to map the next page that is touched. */
	for (i = 0; !READ_ONCE(w->stop); i += SZ_256K + PAGE_SIZE) {
		if (i >= AREA_SIZE)
			i = (i + 2 * PAGE_SIZE) % SZ_256K;
		if (w->host)
			madvise(w->b->mem + i, PAGE_SIZE, MADV_DONTNEED);
		else
			guest_set(w->b, 0, i, PAGE_SIZE);

		phase = READ_ONCE(w->phase);
		ns = now();
		if (w->host)
			host_touch(w->b, i, PAGE_SIZE);
		else
			run_vcpu(w->b->vcpus[0]);
		ns = now() - ns;

		/* What is under way when a conversion begins may wait for it. */
		if (!(phase & 1) && READ_ONCE(w->phase) != phase)
			phase++;
		w->nr_faults += phase & 1;
		w->max_ns[phase] = max(w->max_ns[phase], ns);
	}
	return NULL;
}

/*
 * Pages elsewhere in a file while a large range of it becomes private.  Everybody
 * has to wait for a CPU now and then, thus have it happen several times, and take
 * the time that shows no more than what is always there.
 */
static void measure_wait(const struct row *row)
{
	const u64 size = all ? SZ_1G : SZ_128M;
	struct waiter w = { .host = row->write };
	u64 busy = -1ul, idle = -1ul;
	pthread_t thread;
	struct bench b;
	int i;

	w.b = &b;
	pin_self_to_cpu(cpu1);
	create(&b, row->mode, AREA_SIZE + size, false, 1);
	prepare(&b, 0, AREA_SIZE + size, false, POPULATED);

	kvm_pthread_create(&thread, NULL, waiter_fn, &w);
	for (i = 0; i < NR_CONVERSIONS; i++) {
		usleep(200000);
		WRITE_ONCE(w.phase, 2 * i + 1);
		begin();
		convert(&b, AREA_SIZE, size, true);
		end(1);
		WRITE_ONCE(w.phase, 2 * i + 2);
		convert(&b, AREA_SIZE, size, false);
	}
	WRITE_ONCE(w.stop, true);
	kvm_pthread_join(thread, NULL);

	for (i = 0; i < NR_CONVERSIONS; i++) {
		busy = min(busy, w.max_ns[2 * i + 1]);
		idle = min(idle, w.max_ns[2 * i]);
	}
	print_ns(row, ".call", size / PAGE_SIZE);
	print_value(row, ".max", 1, busy, "ns");
	print_value(row, ".idle", 1, idle, "ns");
	print_value(row, ".faults", 1, w.nr_faults, "faults");
}

struct faulter {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	int *nr_running;
};

static void *faulter_fn(void *arg)
{
	struct faulter *f = arg;

	run_vcpu(f->vcpu);
	__atomic_sub_fetch(f->nr_running, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* All vCPUs fault, and one page elsewhere goes back and forth, or not. */
static void measure_vcpus(const struct row *row)
{
	const u64 size = all ? SZ_8M : SZ_2M;
	struct faulter faulters[MAX_VCPUS];
	u64 start, offset, nr = 0;
	int i, nr_running;
	struct bench b;
	bool contend;

	create(&b, row->mode, SZ_256M, false, MAX_VCPUS);
	prepare(&b, 0, 2 * MAX_VCPUS * size, false, POPULATED);

	for (contend = false; ; contend = true) {
		nr_running = MAX_VCPUS;
		for (i = 0; i < MAX_VCPUS; i++) {
			offset = (i + contend * MAX_VCPUS) * size;
			guest_set(&b, i, offset, size);
			faulters[i].vcpu = b.vcpus[i];
			faulters[i].nr_running = &nr_running;
		}

		start = now();
		for (i = 0; i < MAX_VCPUS; i++)
			kvm_pthread_create(&faulters[i].thread, NULL, faulter_fn, &faulters[i]);
		while (contend && __atomic_load_n(&nr_running, __ATOMIC_SEQ_CST)) {
			begin();
			convert(&b, SZ_256M - SZ_2M, PAGE_SIZE, !(nr++ & 1));
			end(1);
		}
		for (i = 0; i < MAX_VCPUS; i++)
			kvm_pthread_join(faulters[i].thread, NULL);
		print_value(row, contend ? ".fault" : ".alone", 1,
			    (double)(now() - start) / (MAX_VCPUS * size / PAGE_SIZE), "ns/fault");
		for (i = 0; i < MAX_VCPUS; i++)
			guest_check_exit(&b, i);
		if (contend)
			break;
	}
	print_ns(row, ".convert", 1);
}

#define HOG_PAGES	64

struct hog {
	struct bench *b;
	bool running;
};

/* Somebody who has just used the memory, and who doesn't let others run on a CPU. */
static void *hog_fn(void *arg)
{
	struct sched_param param = { .sched_priority = 1 };
	struct hog *hog = arg;
	u64 start;

	pin_self_to_cpu(cpu2);
	host_touch(hog->b, 0, HOG_PAGES * PAGE_SIZE);

	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &param), "sched_setscheduler() failed");
	start = now();
	WRITE_ONCE(hog->running, true);
	while (now() - start < 2 * NSEC_PER_SEC)
		;
	return NULL;
}

static void measure_hog(const struct row *row)
{
	struct hog hog = {};
	pthread_t thread;
	struct bench b;

	hog.b = &b;
	pin_self_to_cpu(cpu1);
	create(&b, row->mode, SZ_2M, false, 1);

	kvm_pthread_create(&thread, NULL, hog_fn, &hog);
	while (!READ_ONCE(hog.running))
		sched_yield();

	begin();
	convert(&b, 0, HOG_PAGES * PAGE_SIZE, true);
	end(1);
	kvm_pthread_join(thread, NULL);
	print_ns(row, "", HOG_PAGES);
}

/* --- rows --- */

static bool has_mode[NR_MODES];

/* Add a row, for each mode unless it's only for row.mode. */
static void __printf(2, 3) add(const struct row row, const char *fmt, ...)
{
	struct row *r;
	va_list args;
	int mode;

	for (mode = NR_MODES - 1; mode >= 0; mode--) {
		if (!has_mode[mode] || (row.only && mode != row.mode) || (!all && row.slow))
			continue;

		rows = realloc(rows, (nr_rows + 1) * sizeof(*rows));
		TEST_ASSERT(rows, "No memory");
		r = &rows[nr_rows++];
		*r = row;
		r->mode = mode;
		va_start(args, fmt);
		vsnprintf(r->id, sizeof(r->id), fmt, args);
		va_end(args);
	}
}

static const char *size_name(u64 size)
{
	static char name[24];
	int unit = 0;

	for (; !(size & 1023); size >>= 10)
		unit++;
	snprintf(name, sizeof(name), "%lu%c", size, "bkmgt"[unit]);
	return name;
}

static const char *direction(bool private)
{
	return private ? "private" : "shared";
}

static void add_floors(void)
{
	add((struct row){ .measure = measure_clock }, "floor.clock");
	add((struct row){ .measure = measure_ioctl }, "floor.ioctl");
	add((struct row){ .measure = measure_run }, "floor.run");
}

static void add_conversions(bool back)
{
	static const u64 sizes[] = { SZ_4K, SZ_64K, SZ_2M, SZ_64M, SZ_512M };
	/* For the largest ones, there's no file that they could return to. */
	const int nr_sizes = back ? 3 : ARRAY_SIZE(sizes);
	struct row row = { .measure = measure_convert, .back = back };
	int i, private;

	for (private = 1; private >= 0; private--) {
		row.private = private;
		for (row.state = NONE; row.state < NR_STATES; row.state++) {
			/* Nothing that is private is mapped by the host. */
			if (!private && (row.state == HOST || row.state == BOTH))
				continue;

			for (i = 0; i < nr_sizes; i++) {
				row.size = sizes[i];
				row.slow = row.size > SZ_2M;
				add(row, "%s.%s.%s.%s", back ? "return" : "convert",
				    direction(private), state_names[row.state],
				    size_name(row.size));
			}
		}
	}
}

static void add_alternate(void)
{
	struct row row = { .measure = measure_alternate };
	int private;

	for (private = 1; private >= 0; private--) {
		row.private = private;
		row.state = NONE;
		add(row, "alternate.%s.none", direction(private));
		row.state = private ? BOTH : GUEST;
		add(row, "alternate.%s.%s", direction(private), state_names[row.state]);
	}
}

static void add_work(void)
{
	static const u64 sizes[] = { SZ_4K, SZ_64K, SZ_2M };
	struct row row = {};
	int i, private;

	for (private = 1; private >= 0; private--) {
		row.measure = measure_work;
		row.private = private;
		for (i = 0; i < ARRAY_SIZE(sizes); i++) {
			row.size = sizes[i];
			add(row, "work.%s.%s", direction(private), size_name(row.size));
		}
	}

	row.measure = measure_round_trip;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		row.size = sizes[i];
		add(row, "round-trip.%s", size_name(row.size));
	}
}

static void add_faults(void)
{
	struct row row = {};
	int private;

	for (private = 1; private >= 0; private--) {
		for (row.arg = 0; row.arg < NR_FAULTS; row.arg++) {
			row.private = private;
			row.measure = measure_guest_fault;
			add(row, "fault.guest.%s.%s", direction(private),
			    fault_names[row.arg]);
			row.measure = measure_pre_fault;
			if (row.arg != APART)
				add(row, "fault.pre.%s.%s", direction(private),
				    fault_names[row.arg]);

			/* Only what is shared is for the host; to write, or to read? */
			row.write = private;
			row.private = false;
			row.measure = measure_host_fault;
			add(row, "fault.host.%s.%s", row.write ? "write" : "read",
			    fault_names[row.arg]);
		}
	}
}

static void add_memory(void)
{
	static const u64 sizes[] = { SZ_4K, SZ_64K, SZ_2M };
	static const int percents[] = { 1, 10, 50 };
	struct row row = { .measure = measure_memory };
	int i, j;

	for (i = 0; i < ARRAY_SIZE(percents); i++) {
		for (j = 0; j < ARRAY_SIZE(sizes); j++) {
			row.arg = percents[i];
			row.size = sizes[j];
			row.slow = i < 2 || j == 2;
			add(row, "memory.%d.%s", percents[i], size_name(sizes[j]));
		}
	}

	/* A host that can't give back what it doesn't need. */
	row.write = true;
	row.only = true;
	row.mode = VM_MODE;
	for (j = 0; j < ARRAY_SIZE(sizes); j++) {
		row.size = sizes[j];
		row.slow = j == 2;
		add(row, "memory-kept.50.%s", size_name(sizes[j]));
	}

	row = (struct row){ .measure = measure_bookkeeping };
	for (row.arg = 0; row.arg < NR_PATTERNS; row.arg++)
		add(row, "bookkeeping.%s", pattern_names[row.arg]);
}

static void add_growth(void)
{
	static const u64 sizes[] = {
		SZ_4K, SZ_2M, SZ_16M, SZ_128M, SZ_1G, 8ul * SZ_1G, 64ul * SZ_1G, SZ_1T,
	};
	struct row row = { .measure = measure_growth_size };
	int i;

	/* In VM mode, a TiB would take minutes, and gigabytes. */
	row.mode = IN_PLACE;
	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		row.size = sizes[i];
		row.only = row.size > SZ_1G;
		row.slow = row.size > SZ_16M && row.size < SZ_1T;
		add(row, "growth.size.%s", size_name(row.size));
	}

	row = (struct row){ .measure = measure_growth_vm };
	for (row.size = SZ_16M; row.size <= SZ_1T; row.size *= 16) {
		row.slow = row.size > SZ_16M && row.size < SZ_1T;
		add(row, "growth.vm.%s", size_name(row.size));
	}

	row = (struct row){ .measure = measure_growth_ranges };
	for (row.arg = 1; row.arg <= 1000000; row.arg *= 10) {
		row.slow = row.arg > 10000;
		add(row, "growth.ranges.%lu", row.arg);
	}

	row = (struct row){ .measure = measure_growth_all };
	for (row.arg = 1; row.arg <= 100000; row.arg *= 10) {
		row.slow = row.arg > 10000;
		add(row, "growth.all.%lu", row.arg);
	}

	row = (struct row){ .measure = measure_growth_slots };
	for (row.arg = 1; row.arg <= 4096; row.arg *= 8) {
		row.slow = row.arg > 64;
		add(row, "growth.slots.%lu", row.arg);
	}
}

/* These need a second CPU. */
static void add_waits(void)
{
	cpu1 = sched_getcpu();
	cpu2 = other_cpu(cpu1);
	__TEST_REQUIRE(cpu2 >= 0, "Needs two CPUs");

	add((struct row){ .measure = measure_wait, .write = true }, "wait.host");
	add((struct row){ .measure = measure_wait }, "wait.guest");
	add((struct row){ .measure = measure_vcpus }, "wait.vcpus");
	add((struct row){ .measure = measure_hog }, "wait.hog");
}

/* In a process of its own, so that no row leaves anything to the next one. */
static void run(const struct row *row)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	TEST_ASSERT(pid >= 0, "fork() failed");
	if (!pid) {
		row->measure(row);
		fflush(NULL);
		_exit(0);
	}

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(!status, "Row %s, %s mode: failed, status 0x%x", row->id,
		    mode_names[row->mode], status);
}

static void help(const char *name)
{
	printf("usage: %s [-ahlw] [-m mode] [-r pattern]\n", name);
	printf(" -a: all rows, and more of what they measure; takes 2 GiB and minutes\n");
	printf(" -l: list the rows\n");
	printf(" -m: only in this mode, in-place or vm\n");
	printf(" -r: only rows whose id the pattern matches (can be given several times)\n");
	printf(" -w: those rows that need two CPUs, and whose times mean little otherwise\n");
}

int main(int argc, char *argv[])
{
	const char *patterns[64];
	const char *mode = NULL;
	int nr_patterns = 0, nr_run = 0, opt, i, j;
	bool list = false, waits = false;

	while ((opt = getopt(argc, argv, "ahlm:r:w")) != -1) {
		switch (opt) {
		case 'a':
			all = true;
			break;
		case 'l':
			list = true;
			break;
		case 'm':
			mode = optarg;
			break;
		case 'r':
			TEST_ASSERT(nr_patterns < ARRAY_SIZE(patterns), "Too many patterns");
			patterns[nr_patterns++] = optarg;
			break;
		case 'w':
			waits = true;
			break;
		case 'h':
		default:
			help(argv[0]);
			exit(opt == 'h' ? 0 : 1);
		}
	}

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	/* VM mode can't be asked for, VMs are in it if it's the default. */
	has_mode[IN_PLACE] = kvm_has_gmem_in_place();
	has_mode[VM_MODE] = kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES) &&
			    !kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
	for (i = 0; mode && i < NR_MODES; i++)
		has_mode[i] &= !strcmp(mode, mode_names[i]);

	if (waits) {
		add_waits();
	} else {
		add_floors();
		add_conversions(false);
		add_conversions(true);
		add_alternate();
		add_work();
		add_faults();
		add_memory();
		add_growth();
	}

	for (i = 0; i < nr_rows; i++) {
		for (j = 0; j < nr_patterns && fnmatch(patterns[j], rows[i].id, 0); j++)
			;
		if (nr_patterns && j == nr_patterns)
			continue;

		nr_run++;
		if (list)
			printf("%s\t%s\n", rows[i].id, mode_names[rows[i].mode]);
		else
			run(&rows[i]);
	}
	__TEST_REQUIRE(nr_run, "No such row in any mode that there is (-l lists them)");

	printf("# %d rows\n", nr_run);
	return 0;
}
