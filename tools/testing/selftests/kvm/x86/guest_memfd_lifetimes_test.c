// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that the state of a guest_memfd's pages lasts as long as the guest_memfd, in
 * whatever order its users go away: descriptors, memslots, mappings, the VM, the
 * process; and that nothing is left when the last of them is closed or killed.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>

#include <linux/falloc.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define INODE_CACHE	"kvm_gmem_inode_cache"
#define VMS_PATH	"/sys/kernel/debug/kvm"

/* How much is populated, every other page of it private, to notice leaks. */
#define POPULATED_SIZE	SZ_8M
#define NR_POPULATED	(POPULATED_SIZE / PAGE_SIZE)

/* What is behind that, in pieces of what the tree has bits for, is for the tree to grow. */
#define CHUNK_SIZE	SZ_2M
#define CHUNK_PAGES	(CHUNK_SIZE / PAGE_SIZE)
#define NR_CHUNKS	2048

/* How often a conversion fails, to notice what each leaves behind. */
#define NR_FAILURES	200

static u64 nr_inodes(void)
{
	return slab_objects(INODE_CACHE);
}

static u64 nr_nodes(void)
{
	return slab_objects("maple_node");
}

/* A VM's directory is named after its creator and its file descriptor: 123-4. */
static u64 nr_vms(void)
{
	DIR *dir = opendir(VMS_PATH);
	struct dirent *entry;
	u64 nr = 0;

	TEST_ASSERT(dir, "Failed to open " VMS_PATH);
	while ((entry = readdir(dir)))
		nr += !!strchr(entry->d_name, '-');
	closedir(dir);

	return nr;
}

static u64 pages_kb(void)
{
	return meminfo_kb("Unevictable");
}

static u64 page_tables_kb(void)
{
	return meminfo_kb("SecPageTables");
}

/* What VMs with guest_memfds use, and how much of it others may use meanwhile. */
static const struct {
	const char *name;
	u64 (*count)(void);
	u64 slack;
} resources[] = {
	{ "guest_memfd inodes",			nr_inodes,	0 },
	{ "VMs",				nr_vms,		0 },
	{ "kB of page tables for guests",	page_tables_kb,	0 },
	{ "kB of unevictable pages",		pages_kb,	SZ_1K },
	{ "maple tree nodes",			nr_nodes,	64 },
};

FIXTURE(leaks) {
	u64 limits[ARRAY_SIZE(resources)];
};

FIXTURE_SETUP(leaks)
{
	int i;

	require_in_place_vm();

	if (!has_slab_objects(INODE_CACHE))
		SKIP(return, "Can't count inodes, needs CONFIG_SLUB_DEBUG, sysfs and root");
	if (access(VMS_PATH, R_OK))
		SKIP(return, "Can't count VMs, needs CONFIG_DEBUG_FS, debugfs and root");

	for (i = 0; i < ARRAY_SIZE(resources); i++)
		self->limits[i] = settled(resources[i].count, -1) + resources[i].slack;
}

FIXTURE_TEARDOWN(leaks)
{
}

/* Verify that a leak of what there is now would be noticed. */
static void check_in_use(FIXTURE_DATA(leaks) * self)
{
	u64 nr;
	int i;

	for (i = 0; i < ARRAY_SIZE(resources); i++) {
		nr = resources[i].count();
		TEST_ASSERT(nr > self->limits[i], "Only %lu %s, %lu are within limits",
			    nr, resources[i].name, self->limits[i]);
	}
}

static void check_nothing_left(FIXTURE_DATA(leaks) * self)
{
	u64 nr;
	int i;

	for (i = 0; i < ARRAY_SIZE(resources); i++) {
		nr = settled(resources[i].count, self->limits[i]);
		TEST_ASSERT(nr <= self->limits[i], "%lu %s are left, limit %lu",
			    nr, resources[i].name, self->limits[i]);
	}
}

/* Have pages and a tree of several nodes, so that leaks are noticed. */
static int create_populated(struct kvm_vm *vm)
{
	int i, fd;

	fd = vm_create_guest_memfd(vm, POPULATED_SIZE + (u64)NR_CHUNKS * CHUNK_SIZE,
				   GMEM_FLAGS);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, POPULATED_SIZE);
	for (i = 0; i < NR_POPULATED; i += 2)
		to_private(fd, i, 1);
	for (i = 0; i < NR_CHUNKS; i += 2)
		to_private(fd, NR_POPULATED + i * CHUNK_PAGES, CHUNK_PAGES);

	return fd;
}

/* A guest_memfd at GMEM_GPA2 with data in pages of each state, and its mapping. */
static int create_mixed(struct gmem_vm *gmem, u8 **mem)
{
	int fd = vm_create_guest_memfd(gmem->vm, GMEM_SIZE, GMEM_FLAGS);

	TEST_ASSERT_EQ(gmem_add_slot(gmem->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, fd, 0), 0);
	*mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	host_fill(*mem, 0, NR_PAGES, 1);
	set_state(fd, MIXED);
	__guest_check(gmem->vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	return fd;
}

/* C18, C25: Close a guest_memfd before the VM and one after it, and look for leaks. */
TEST_F(leaks, free)
{
	struct gmem_vm gmem;
	int fd, fd2;
	u8 *mem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_mixed(&gmem, &mem);
	fd2 = create_populated(gmem.vm);
	check_in_use(self);

	kvm_close(fd2);
	gmem_vm_free(&gmem);
	kvm_munmap(mem, GMEM_SIZE);
	kvm_close(fd);
	check_nothing_left(self);
}

/*
 * C16, C18: Close the descriptor while there's a mapping, also in another process:
 * the guest keeps its memory until the last of them is gone.
 */
TEST_F(leaks, close_fd)
{
	struct gmem_vm gmem;
	int to_child[2], status, fd, i;
	pid_t pid;
	u8 *mem;
	char c;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_mixed(&gmem, &mem);

	kvm_close(fd);
	check_mixed(mem, 1);
	host_fill(mem, 10, 1, 2);
	__guest_check(gmem.vcpu, GMEM_GPA2 + 10 * PAGE_SIZE, 10, 1, 2);
	__guest_fill(gmem.vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	check_mixed(mem, 1);

	ASSERT_EQ(0, pipe(to_child));
	pid = fork();
	if (!pid) {
		close(to_child[1]);
		TEST_ASSERT_EQ(read(to_child[0], &c, 1), 0);
		check_mixed(mem, 1);
		_exit(0);
	}
	kvm_munmap(mem, GMEM_SIZE);
	__guest_check(gmem.vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	kvm_close(to_child[1]);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	kvm_close(to_child[0]);

	/* Nothing brings the memory back. */
	for (i = 0; i < NR_PAGES; i++)
		guest_read_closed(gmem.vcpu, GMEM_GPA2 + i * PAGE_SIZE);
	gmem_delete_slot(gmem.vm, GMEM_SLOT2);

	gmem_vm_free(&gmem);
	check_nothing_left(self);
}

/* C10, C18, C25: Close the VM's descriptor, and go on with vCPUs and guest_memfds. */
TEST_F(leaks, close_vm)
{
	struct gmem_vm gmem;
	u64 nr, error_page;
	int fd;
	u8 *mem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_mixed(&gmem, &mem);
	nr = nr_vms();

	/* vCPUs go on without the VM's descriptor. */
	kvm_close(gmem.vm->fd);
	to_private(fd, 0, NR_PAGES);
	__guest_check(gmem.vcpu, GMEM_GPA2, 0, NR_PAGES, 1);
	__guest_fill(gmem.vcpu, GMEM_GPA2, 0, NR_PAGES, 2);
	to_shared(fd, 0, NR_PAGES);
	host_check(mem, 0, NR_PAGES, 2);
	host_fill(mem, 0, NR_PAGES, 1);
	set_state(fd, MIXED);
	__guest_check(gmem.vcpu, GMEM_GPA2, 0, NR_PAGES, 1);

	/* The library is going to close it again. */
	gmem.vm->fd = kvm_dup(gmem.vm->kvm_fd);
	gmem_vm_free(&gmem);

	check_mixed(mem, 1);
	to_shared(fd, 0, NR_PAGES);
	host_check(mem, 0, NR_PAGES, 1);
	ASSERT_EQ(0, try_private(fd, 0, NR_PAGES, &error_page));
	check_state(mem, ALL_PAGES);
	kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE / 2);
	to_shared(fd, 0, NR_PAGES);
	ASSERT_EQ(0, host_read(mem, 0));
	host_check(mem, NR_PAGES / 2, NR_PAGES / 2, 1);

	ASSERT_EQ(nr, nr_vms());
	kvm_close(fd);
	check_state(mem, 0);
	ASSERT_EQ(nr, nr_vms());
	kvm_munmap(mem, GMEM_SIZE);
	check_nothing_left(self);
}

/* C5, C6, C25: Have conversions fail, and look for leaks of what they have allocated. */
TEST_F(leaks, failed_conversions)
{
	/* A shared page, and a range around it that the tree needs memory for. */
	const int first = CHUNK_PAGES, nr = 2 * CHUNK_PAGES, page = first + nr / 2 + 1;
	u64 nr_before, nr_after, error_page;
	struct gmem_vm gmem;
	char buf[PAGE_SIZE];
	int pipe_fds[2];
	int fd, i;
	u8 *mem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_populated(gmem.vm);
	mem = kvm_mmap(POPULATED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(mem, page)));

	/* Fail so often that leaks exceed what others may use meanwhile. */
	nr_before = settled(nr_nodes, -1);
	for (i = 0; i < NR_FAILURES; i++) {
		ASSERT_EQ(EAGAIN, try_private(fd, first, nr, &error_page));
		ASSERT_EQ(page, error_page);
	}
	nr_after = settled(nr_nodes, nr_before + NR_FAILURES / 2);
	ASSERT_LE(nr_after, nr_before + NR_FAILURES / 2);

	unsplice_page(pipe_fds, buf);
	ASSERT_EQ(0, try_private(fd, first, nr, &error_page));

	kvm_munmap(mem, POPULATED_SIZE);
	kvm_close(fd);
	gmem_vm_free(&gmem);
	check_nothing_left(self);
}

/* Every ioctl that there is to ask a VM that KVM has given up for something. */
static void check_dead(struct gmem_vm *gmem, int fd)
{
	struct kvm_memory_attributes2 attr = {
		.size = GMEM_SIZE,
		.error_offset = NO_ERROR_OFFSET,
	};
	struct kvm_memory_attributes2 bad;
	int i;

	memset(&bad, 0xff, sizeof(bad));
	for (i = 0; i < 2; i++) {
		attr.attributes = i ? PRIVATE : 0;
		TEST_ASSERT_EQ(set_attributes(fd, &attr), EIO);
		TEST_ASSERT_EQ(attr.error_offset, NO_ERROR_OFFSET);
	}
	TEST_ASSERT_EQ(set_attributes(fd, &bad), EIO);
	TEST_ASSERT_EQ(set_attributes(fd, NULL), EIO);
	TEST_ASSERT_EQ(ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES, &attr), -1);
	TEST_ASSERT_EQ(errno, ENOTTY);

	TEST_ASSERT_EQ(_vcpu_run(gmem->vcpu), -1);
	TEST_ASSERT_EQ(errno, EIO);
	TEST_ASSERT_EQ(__vm_create_guest_memfd(gmem->vm, PAGE_SIZE, 0), -1);
	TEST_ASSERT_EQ(errno, EIO);
	TEST_ASSERT_EQ(gmem_add_slot(gmem->vm, GMEM_SLOT2 + 1, GMEM_GPA2 + SZ_2M, 1, fd, 0), EIO);
	TEST_ASSERT_EQ(__vm_ioctl(gmem->vm, KVM_CHECK_EXTENSION, NULL), -1);
	TEST_ASSERT_EQ(errno, EIO);
}

/*
 * C4, C9, C12, C25: Have KVM give up a VM, by an SMI whose state it can't save as the
 * save area is private.  Every ioctl fails, the file stays what it was for those who
 * have it, and nothing is left in the end.
 */
TEST_F(leaks, dead_vm)
{
	/* The save area is at the end of 64 KiB. */
	const int page = SZ_64K / PAGE_SIZE - 1;
	const u64 state = MIXED | BIT_ULL(page);
	u8 *mem, *new_mem;
	struct gmem_vm gmem;
	int fd, fd2, status, i;
	pid_t pid;

	TEST_REQUIRE(kvm_has_cap(KVM_CAP_X86_SMM));

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_mixed(&gmem, &mem);
	fd2 = create_populated(gmem.vm);
	to_private(fd, page, 1);
	check_in_use(self);

	vcpu_set_msr(gmem.vcpu, MSR_IA32_SMBASE, GMEM_GPA2);
	vcpu_ioctl(gmem.vcpu, KVM_SMI, NULL);
	ASSERT_EQ(-1, _vcpu_run(gmem.vcpu));
	ASSERT_EQ(EIO, errno);
	check_dead(&gmem, fd);
	check_dead(&gmem, fd2);

	/* Two reasons for EIO. */
	pid = fork();
	if (!pid) {
		check_dead(&gmem, fd);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	/* Nobody has become the owner of what was the guest's. */
	check_state(mem, state);
	for (i = 0; i < NR_PAGES; i++)
		if (!(state & BIT_ULL(i)))
			host_check(mem, i, 1, 1);
	new_mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	check_state(new_mem, state);
	kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE / 2);
	check_state(mem, state);
	ASSERT_EQ(0, host_read(new_mem, 10));
	host_fill(mem, 10, 1, 2);
	host_check(new_mem, 10, 1, 2);
	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
	check_dead(&gmem, fd);

	kvm_munmap(new_mem, GMEM_SIZE);
	kvm_close(fd2);
	gmem_vm_free(&gmem);
	check_state(mem, state);
	kvm_munmap(mem, GMEM_SIZE);
	kvm_close(fd);
	check_nothing_left(self);
}

/* What a child and its parent tell each other. */
struct progress {
	u64 nr;
	u64 ns;
	int fd;
	bool converting;
	bool converted;
};

static struct progress *alloc_progress(void)
{
	return kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
}

/* Wait for @cond, and fail if the child dies. */
#define WAIT_FOR_CHILD(pid, cond)						\
do {										\
	int __status;								\
										\
	while (!(cond)) {							\
		TEST_ASSERT_EQ(waitpid(pid, &__status, WNOHANG), 0);		\
		sched_yield();							\
	}									\
} while (0)

static void kill_child(pid_t pid)
{
	int status;

	TEST_ASSERT_EQ(kill(pid, SIGKILL), 0);
	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		    "Unexpected status 0x%x", status);
}

static void __noreturn create_and_wait(struct progress *progress, int pipe_fd)
{
	struct kvm_memory_attributes2 attr = { .size = PAGE_SIZE };
	pid_t creator = getpid();
	struct gmem_vm gmem;
	u8 *mem;
	int fd;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_mixed(&gmem, &mem);

	if (!fork()) {
		WRITE_ONCE(progress->nr, 1);
		while (getppid() == creator)
			sched_yield();

		/* The VM is no one's now, and its memory is as it was. */
		check_mixed(mem, 1);
		TEST_ASSERT_EQ(set_attributes(fd, &attr), EIO);
		attr.attributes = PRIVATE;
		TEST_ASSERT_EQ(set_attributes(fd, &attr), EIO);
		check_mixed(mem, 1);
		kvm_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE / 2);
		check_state(mem, MIXED);
		TEST_ASSERT_EQ(host_read(mem, 10), 0);
		TEST_ASSERT_EQ(write(pipe_fd, "", 1), 1);
		_exit(0);
	}

	for (;;)
		sched_yield();
}

/* C4, C18: Have a child outlive its VMM: it can use the pages, but not convert them. */
TEST_F(leaks, outlived_by_child)
{
	struct progress *progress = alloc_progress();
	int from_child[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(from_child));
	pid = fork();
	if (!pid)
		create_and_wait(progress, from_child[1]);
	kvm_close(from_child[1]);

	WAIT_FOR_CHILD(pid, READ_ONCE(progress->nr));
	kill_child(pid);

	/* The child reports success and exits. */
	ASSERT_EQ(1, read(from_child[0], &c, 1));
	ASSERT_EQ(0, read(from_child[0], &c, 1));
	kvm_close(from_child[0]);
	check_nothing_left(self);
}

static void *convert_worker(void *data)
{
	const int fd = *(int *)data;

	/* What the vCPU touches, page by page and all at once. */
	for (int i = 0; ; i = (i + 1) % NR_SPIN_PAGES) {
		to_private(fd, i, 1);
		to_shared(fd, 0, NR_SPIN_PAGES);
	}
	return NULL;
}

static void __noreturn convert_until_killed(struct progress *progress)
{
	const u64 size = POPULATED_SIZE;
	struct gmem_vm gmem;
	pthread_t thread;
	int fd, fd2, i;
	u8 *mem;

	gmem_vm_create(&gmem, GMEM_FLAGS);
	fd = create_mixed(&gmem, &mem);
	fd2 = create_populated(gmem.vm);
	guest_spin_start(gmem.vcpu);
	while (guest_spin_laps(gmem.vm) < 2)
		sched_yield();
	WRITE_ONCE(progress->nr, 1);

	/* There is nobody to wait for it. */
	kvm_pthread_create(&thread, NULL, convert_worker, &gmem.fd);

	for (i = 0; ; i++) {
		switch (i % 4) {
		case 0:
			set_state(fd, ALL_PAGES & ~MIXED);
			break;
		case 1:
			gmem_set_memory_attributes(fd2, 0, size / 2, PRIVATE);
			break;
		case 2:
			gmem_set_memory_attributes(fd2, 0, size / 2, 0);
			break;
		case 3:
			kvm_fallocate(fd2, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SZ_1M);
			kvm_fallocate(fd2, FALLOC_FL_KEEP_SIZE, 0, SZ_1M);
			break;
		}
		WRITE_ONCE(progress->nr, progress->nr + 1);
	}
}

/*
 * C25: Kill a VMM whose vCPU runs and whose threads convert, with pages in each
 * state and a guest_memfd in pieces, as soon as it's there and some steps later.
 */
TEST_F(leaks, killed)
{
	struct progress *progress = alloc_progress();
	pid_t pid;
	u64 i;

	for (i = 1; i <= 4; i *= 2) {
		WRITE_ONCE(progress->nr, 0);
		pid = fork();
		if (!pid)
			convert_until_killed(progress);

		/* At any time while it is at step i. */
		WAIT_FOR_CHILD(pid, READ_ONCE(progress->nr) >= i);
		if (i == 1)
			check_in_use(self);
		kill_child(pid);
	}
	check_nothing_left(self);
}

#define KILLED_SIZE	((u64)SZ_32M)

static u64 convert_populated(int fd, u8 *mem, struct progress *progress)
{
	struct timespec start;

	/* Mapped, as to find the pages isn't what takes time. */
	kvm_madvise(mem, KILLED_SIZE, MADV_POPULATE_WRITE);

	clock_gettime(CLOCK_MONOTONIC, &start);
	if (progress)
		WRITE_ONCE(progress->converting, true);
	gmem_set_private(fd, 0, KILLED_SIZE);
	if (progress)
		WRITE_ONCE(progress->converted, true);

	return timespec_to_ns(timespec_elapsed(start));
}

static void __noreturn convert_once(struct progress *progress)
{
	struct kvm_vm *vm;
	u8 *mem;
	int fd;

	vm = ____vm_create(in_place_shape);
	fd = vm_create_guest_memfd(vm, KILLED_SIZE, GMEM_FLAGS);
	mem = kvm_mmap(KILLED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);

	/* How long it takes, to be killed in the middle the next time. */
	progress->ns = convert_populated(fd, mem, NULL);
	gmem_set_shared(fd, 0, KILLED_SIZE);
	progress->fd = fd;
	WRITE_ONCE(progress->nr, 1);

	/* Let the parent have the file, too. */
	while (READ_ONCE(progress->nr) == 1)
		sched_yield();
	convert_populated(fd, mem, progress);

	for (;;)
		sched_yield();
}

/* Returns whether all pages are private; all or none have to be. */
static bool all_private(u8 *mem)
{
	const int nr = KILLED_SIZE / PAGE_SIZE;
	bool private = read_raises_sigbus(mem);
	int i;

	for (i = 0; i < nr; i += 61)
		TEST_ASSERT(read_raises_sigbus(page_hva(mem, i)) == private,
			    "Page %d should be %s", i, private ? "private" : "shared");
	TEST_ASSERT_EQ(read_raises_sigbus(page_hva(mem, nr - 1)), private);

	return private;
}

/*
 * C4, C5, C25: Kill a process at several points of a conversion that takes long.
 * It doesn't go on to the end, and what it has done so far makes no difference.
 */
TEST_F(leaks, killed_within_conversion)
{
	struct progress *progress = alloc_progress();
	int nr_interrupted = 0, pidfd, fd, i;
	struct timespec start;
	bool converted;
	pid_t pid;
	u8 *mem;

	/* The time to kill it is a guess, so try several. */
	for (i = 0; i < 24 && nr_interrupted < 3; i++) {
		memset(progress, 0, sizeof(*progress));
		pid = fork();
		if (!pid)
			convert_once(progress);

		/* Have the file outlive the child, in order to look at it. */
		WAIT_FOR_CHILD(pid, READ_ONCE(progress->nr));
		pidfd = syscall(__NR_pidfd_open, pid, 0);
		ASSERT_LE(0, pidfd);
		fd = syscall(__NR_pidfd_getfd, pidfd, progress->fd, 0);
		ASSERT_LE(0, fd);
		kvm_close(pidfd);
		mem = kvm_mmap(KILLED_SIZE, PROT_READ, MAP_SHARED, fd);
		WRITE_ONCE(progress->nr, 2);

		WAIT_FOR_CHILD(pid, READ_ONCE(progress->converting));
		clock_gettime(CLOCK_MONOTONIC, &start);
		while (timespec_to_ns(timespec_elapsed(start)) < progress->ns * (1 + i % 7) / 8)
			;
		kill_child(pid);

		converted = all_private(mem);
		ASSERT_TRUE(converted || !progress->converted);
		nr_interrupted += !converted;

		kvm_munmap(mem, KILLED_SIZE);
		kvm_close(fd);
	}
	TH_LOG("%d of %d were interrupted, of %lu us each", nr_interrupted, i,
	       progress->ns / 1000);

	/* A single one may have been killed before it began. */
	ASSERT_EQ(3, nr_interrupted);
	check_nothing_left(self);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
