// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test who waits for a change of a guest_memfd that takes long: those who want a
 * page that is being changed, until they are killed, and nobody else.  If memory
 * can't be converted, as in 7.3, nobody does.
 *
 * Nothing is timed.  Verify that what isn't to wait is done again and again while
 * the change goes on, and that what is killed is dead before the change is over.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

/* What is changed, and, behind it, what isn't. */
#define NR_CHANGED	((u64)SZ_32M / PAGE_SIZE)
#define NR_OTHERS	512
#define BIG_SIZE	((NR_CHANGED + NR_OTHERS) * PAGE_SIZE)

/* How many pages a fault may map at once. */
#define NR_AROUND	(SZ_64K / PAGE_SIZE)

#define BIG_SLOT	GMEM_SLOT2
#define BIG_GPA		(GMEM_GPA + SZ_1G)
#define OTHERS_GPA	(BIG_GPA + NR_CHANGED * PAGE_SIZE)

/*
 * How often something is to be done during a change.  Once or twice it can be
 * done without, before the change has taken its locks.
 */
#define MIN_TIMES	5
#define MAX_TIMES	64
#define NR_ATTEMPTS	5

enum change {
	TO_PRIVATE,
	TO_SHARED,
	PUNCH_HOLE,
};

/* Shared with children. */
struct progress {
	bool started;
	bool done;
	bool child_ready;
	bool child_touches;
	bool child_touched;
};

FIXTURE(waiting) {
	struct progress *progress;
	struct gmem_vm gmem;
	enum change change;
	pthread_t thread;
	int first;	/* The page that the change begins with. */
	u8 *mem;
	u8 *others;
	int fd;
};

FIXTURE_VARIANT(waiting) {
	const struct vm_shape *shape;
	enum change change;
	bool waits;
};

FIXTURE_VARIANT_ADD(waiting, to_private) {
	.shape = &in_place_shape,
	.change = TO_PRIVATE,
	.waits = true,
};

FIXTURE_VARIANT_ADD(waiting, punch_hole) {
	.shape = &in_place_shape,
	.change = PUNCH_HOLE,
	.waits = true,
};

static const struct vm_shape no_private_memory_shape = {
	.mode = VM_MODE_DEFAULT,
	.type = VM_TYPE_DEFAULT,
};

FIXTURE_VARIANT_ADD(waiting, no_private_memory) {
	.shape = &no_private_memory_shape,
	.change = PUNCH_HOLE,
};

FIXTURE_SETUP(waiting)
{
	__gmem_vm_create(&self->gmem, *variant->shape, GMEM_FLAGS);
	self->fd = vm_create_guest_memfd(self->gmem.vm, BIG_SIZE, GMEM_FLAGS);
	TEST_ASSERT_EQ(gmem_add_slot(self->gmem.vm, BIG_SLOT, BIG_GPA,
				     NR_CHANGED + NR_OTHERS, self->fd, 0), 0);
	virt_map(self->gmem.vm, OTHERS_GPA, OTHERS_GPA, NR_OTHERS);
	virt_map(self->gmem.vm, BIG_GPA, BIG_GPA, NR_AROUND);

	self->mem = kvm_mmap(BIG_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, self->fd);
	self->others = self->mem + NR_CHANGED * PAGE_SIZE;
	self->progress = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1);
	self->change = variant->change;
	host_fill(self->others, 0, NR_OTHERS, 1);
}

FIXTURE_TEARDOWN(waiting)
{
	kvm_munmap(self->progress, PAGE_SIZE);
	kvm_munmap(self->mem, BIG_SIZE);
	kvm_close(self->fd);
	gmem_vm_free(&self->gmem);
}

static void *change_worker(void *data)
{
	FIXTURE_DATA(waiting) * self = data;

	WRITE_ONCE(self->progress->started, true);
	if (self->change == TO_PRIVATE)
		to_private(self->fd, self->first, NR_CHANGED - self->first);
	else if (self->change == TO_SHARED)
		to_shared(self->fd, self->first, NR_CHANGED - self->first);
	else
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      self->first * PAGE_SIZE,
			      (NR_CHANGED - self->first) * PAGE_SIZE);
	WRITE_ONCE(self->progress->done, true);
	return NULL;
}

/* Have pages for the change to find, those that are shared mapped by the host. */
static void change_prepare(FIXTURE_DATA(waiting) * self)
{
	if (self->change != PUNCH_HOLE)
		to_shared(self->fd, 0, NR_CHANGED);
	TEST_ASSERT(!madvise(self->mem, NR_CHANGED * PAGE_SIZE, MADV_POPULATE_WRITE),
		    __KVM_SYSCALL_ERROR("madvise(MADV_POPULATE_WRITE)", -1));
	if (self->change == TO_SHARED)
		to_private(self->fd, 0, NR_CHANGED);
	memset(self->progress, 0, sizeof(*self->progress));
}

static void change_start(FIXTURE_DATA(waiting) * self)
{
	kvm_pthread_create(&self->thread, NULL, change_worker, self);
	while (!READ_ONCE(self->progress->started))
		sched_yield();
}

static bool change_is_done(FIXTURE_DATA(waiting) * self)
{
	return READ_ONCE(self->progress->done);
}

/*
 * Do something during a change, with another page each time.  Returns how often it
 * was done before the change was over.
 */
static int count_times(FIXTURE_DATA(waiting) * self,
		       void (*op)(FIXTURE_DATA(waiting) * self, int i))
{
	int i, page = 0, times = 0;

	for (i = 0; i < NR_ATTEMPTS && times < MIN_TIMES; i++) {
		change_prepare(self);
		change_start(self);

		for (times = 0; !change_is_done(self) && times < MAX_TIMES; ) {
			usleep(100);
			op(self, page++);
			if (!change_is_done(self))
				times++;
		}
		kvm_pthread_join(self->thread, NULL);
	}

	return times;
}

/*
 * Whether it takes long to make memory shared, i.e. whether there's something to do for
 * each page: with CONFIG_KVM_PROVE_GMEM, there is.
 */
static bool sharing_takes_long(FIXTURE_DATA(waiting) * self)
{
	int fd = open_populate(self->gmem.vm);

	if (fd >= 0)
		kvm_close(fd);
	return fd >= 0;
}

/* Verify that it is done often enough, whichever direction memory is converted to. */
static void check_times(FIXTURE_DATA(waiting) * self,
			void (*op)(FIXTURE_DATA(waiting) * self, int i))
{
	TEST_ASSERT(count_times(self, op) >= MIN_TIMES, "Somebody waited");
	if (self->change != TO_PRIVATE || !sharing_takes_long(self))
		return;

	self->change = TO_SHARED;
	TEST_ASSERT(count_times(self, op) >= MIN_TIMES, "Somebody waited");
}

static void host_fault(FIXTURE_DATA(waiting) * self, int i)
{
	TEST_ASSERT(!madvise(page_hva(self->others, i), PAGE_SIZE, MADV_DONTNEED),
		    __KVM_SYSCALL_ERROR("madvise(MADV_DONTNEED)", -1));
	host_check(self->others, i, 1, 1);
}

/* C22, C25 */
TEST_F(waiting, host_faults_elsewhere)
{
	check_times(self, host_fault);
}

static void guest_fault(FIXTURE_DATA(waiting) * self, int i)
{
	TEST_ASSERT_EQ(guest_read(self->gmem.vcpu, OTHERS_GPA + i * PAGE_SIZE),
		       page_val(i, 1));
}

/* C22, C25 */
TEST_F(waiting, guest_faults_elsewhere)
{
	check_times(self, guest_fault);
}

static void allocate(FIXTURE_DATA(waiting) * self, int i)
{
	kvm_fallocate(self->fd, FALLOC_FL_KEEP_SIZE, (NR_CHANGED + i) * PAGE_SIZE,
		      PAGE_SIZE);
}

/* C25 */
TEST_F(waiting, allocation_elsewhere)
{
	check_times(self, allocate);
}

static void child_touch(FIXTURE_DATA(waiting) * self, int (*touch)(void *mem))
{
	struct progress *progress = self->progress;
	void *last = self->others - PAGE_SIZE;

	/* Be sure to have a fault. */
	madvise(last, PAGE_SIZE, MADV_DONTNEED);
	WRITE_ONCE(progress->child_ready, true);
	while (!READ_ONCE(progress->started))
		sched_yield();
	usleep(500);
	WRITE_ONCE(progress->child_touches, true);
	touch(last);
	WRITE_ONCE(progress->child_touched, true);
	pause();
	_exit(0);
}

/* Returns whether a child that waited was dead before the change was over. */
static bool kill_waiter(FIXTURE_DATA(waiting) * self, int (*touch)(void *mem))
{
	struct progress *progress = self->progress;
	bool killed = false;
	int i, status;
	pid_t pid;

	for (i = 0; i < NR_ATTEMPTS && !killed; i++) {
		change_prepare(self);
		pid = fork();
		TEST_ASSERT(pid >= 0, "fork() failed, errno: %d", errno);
		if (!pid)
			child_touch(self, touch);
		while (!READ_ONCE(progress->child_ready))
			sched_yield();

		change_start(self);
		while (!READ_ONCE(progress->child_touches))
			sched_yield();
		usleep(1000);
		killed = !READ_ONCE(progress->child_touched);
		kill(pid, SIGKILL);
		TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
		killed = killed && !change_is_done(self) &&
			 WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
		kvm_pthread_join(self->thread, NULL);
	}

	return killed;
}

static int touch_by_user(void *mem)
{
	return READ_ONCE(*(u8 *)mem);
}

static int touch_by_kernel(void *mem)
{
	return write(open("/dev/null", O_WRONLY), mem, 1) +
	       madvise(mem, PAGE_SIZE, MADV_POPULATE_READ);
}

/* C25 */
TEST_F(waiting, host_faults_are_killable)
{
	if (!variant->waits)
		SKIP(return, "Nobody waits");

	EXPECT_TRUE(kill_waiter(self, touch_by_user));
}

/* C25 */
TEST_F(waiting, kernel_accesses_are_killable)
{
	if (!variant->waits)
		SKIP(return, "Nobody waits");

	EXPECT_TRUE(kill_waiter(self, touch_by_kernel));
}

/* C4, C25, C26 */
TEST_F(waiting, memory_failure)
{
	const int poisoned = NR_OTHERS - 1;
	gpa_t gpa = OTHERS_GPA + poisoned * PAGE_SIZE;
	bool waited = true;
	int i;

	TEST_REQUIRE(!access("/sys/devices/system/memory/hard_offline_page", F_OK));

	for (i = 0; i < NR_ATTEMPTS && waited; i++) {
		/* A new page, mapped by the guest. */
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (NR_CHANGED + poisoned) * PAGE_SIZE, PAGE_SIZE);
		madvise(page_hva(self->others, poisoned), PAGE_SIZE, MADV_DONTNEED);
		host_fill(self->others, poisoned, 1, 1);
		TEST_ASSERT_EQ(guest_read(self->gmem.vcpu, gpa), page_val(poisoned, 1));

		change_prepare(self);
		change_start(self);
		usleep(1000);
		poison_page(page_hva(self->others, poisoned));

		/* Who has waited for the change may be back before it says so. */
		usleep(1000);
		waited = change_is_done(self);
		kvm_pthread_join(self->thread, NULL);

		/* The guest has lost the page by the end of the change. */
		ASSERT_EQ(EHWPOISON, try_guest_read(self->gmem.vcpu, gpa));
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (NR_CHANGED + poisoned) * PAGE_SIZE, PAGE_SIZE);
		ASSERT_EQ(0, guest_read(self->gmem.vcpu, gpa));
	}

	EXPECT_FALSE(waited);
}

/* C9, C25 */
TEST_F(waiting, sees_the_change)
{
	struct progress *progress = self->progress;
	void *last = self->others - PAGE_SIZE;
	long faults = 0;

	if (!variant->waits)
		SKIP(return, "Nobody waits");

	change_prepare(self);
	WRITE_ONCE(*(u8 *)last, 1);
	change_start(self);

	/* The old contents while they are there, and then what the change has left. */
	while (!READ_ONCE(progress->done)) {
		if (self->change == TO_PRIVATE) {
			if (read_raises_sigbus(last))
				break;
		} else if (!READ_ONCE(*(u8 *)last)) {
			break;
		}
		madvise(last, PAGE_SIZE, MADV_DONTNEED);
		faults++;
	}
	kvm_pthread_join(self->thread, NULL);

	EXPECT_EQ(self->change == TO_PRIVATE, read_raises_sigbus(last));
	EXPECT_TRUE(self->change == TO_PRIVATE || !READ_ONCE(*(u8 *)last));
	TH_LOG("%ld faults meanwhile", faults);
}

/*
 * C9, C25: Have faults, which map their neighbors, next to what is changed: they don't
 * bring back what the change has taken from the host, and isn't done with.
 */
TEST_F(waiting, faults_beside)
{
	long faults = 0;
	int i;

	self->first = 1;
	change_prepare(self);
	host_fill(self->mem, 0, NR_AROUND, 1);
	change_start(self);
	for (; !change_is_done(self); faults++) {
		ASSERT_EQ(0, madvise(self->mem, PAGE_SIZE, MADV_DONTNEED));
		host_check(self->mem, 0, 1, 1);
	}
	kvm_pthread_join(self->thread, NULL);

	for (i = 1; i < NR_AROUND; i++) {
		EXPECT_EQ(self->change == TO_PRIVATE,
			  read_raises_sigbus(page_hva(self->mem, i)));
		EXPECT_TRUE(self->change == TO_PRIVATE || !host_read(self->mem, i));
	}
	host_check(self->mem, 0, 1, 1);
	TH_LOG("%ld faults meanwhile", faults);
}

/*
 * C9, C25: The same for the guest, which has one fault that maps neighbors for each
 * change, at another time each, in the second half, as that is when the guest loses
 * its mappings.  Some of those counted are of the guest's own memory.
 */
TEST_F(waiting, guest_faults_beside)
{
	const int nr_attempts = self->change == TO_PRIVATE ? 25 : 5;
	struct timespec start;
	u64 before, us = 0;
	int i;

	self->first = NR_AROUND / 2;
	for (i = 0; i < nr_attempts; i++) {
		change_prepare(self);
		before = guest_mappings(self->gmem.vcpu);
		clock_gettime(CLOCK_MONOTONIC, &start);
		change_start(self);
		usleep(us / 2 + us / 2 * i / nr_attempts);
		guest_read(self->gmem.vcpu, BIG_GPA);
		guest_read(self->gmem.vcpu, BIG_GPA + PAGE_SIZE);
		kvm_pthread_join(self->thread, NULL);
		if (!us)
			us = timespec_to_ns(timespec_elapsed(start)) / 1000;

		EXPECT_GT(before + NR_AROUND, guest_mappings(self->gmem.vcpu));
		kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			      NR_AROUND * PAGE_SIZE);
	}
}

int main(int argc, char *argv[])
{
	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));

	return test_harness_run(argc, argv);
}
