// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what a guest finds where its guest_memfd is closed: KVM_RUN fails at once,
 * be it that the VMM has closed the file or somebody else whom it was sent to, and
 * be it that the vCPU is just about to use it or that the memslot is deleted.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/falloc.h>
#include <linux/userfaultfd.h>

#include <io_uring/mini_liburing.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define NR_VCPUS	2

/* Plain memory: a page that isn't there yet, and one that can go. */
#define MISSING_SLOT	(GMEM_SLOT2 + 1)
#define MISSING_GPA	(GMEM_GPA2 + SZ_2M)
#define SPARE_SLOT	(GMEM_SLOT2 + 2)
#define SPARE_GPA	(MISSING_GPA + SZ_2M)

#define INODE_CACHE	"kvm_gmem_inode_cache"
#define CORRUPT_PFN	"/sys/kernel/debug/hwpoison/corrupt-pfn"

/* What has to happen does so within this time, but not necessarily at once. */
#define WAIT_SECONDS	10

#define WAIT_FOR(cond)							\
do {									\
	struct timespec __start;					\
									\
	clock_gettime(CLOCK_MONOTONIC, &__start);			\
	while (!(cond)) {						\
		TEST_ASSERT(timespec_elapsed(__start).tv_sec < WAIT_SECONDS, \
			    "Waited too long for: " #cond);		\
		sched_yield();						\
	}								\
} while (0)

/* A VM in either mode, with a memslot on a guest_memfd at GMEM_GPA2. */
struct bound_vm {
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct kvm_vm *vm;
	bool in_place;
	int fd;
};

static u64 nr_inodes(void)
{
	return slab_objects(INODE_CACHE);
}

static void bound_vm_init(struct bound_vm *b, const struct vm_shape *shape)
{
	b->vm = gmem_vm_create_with_vcpus(*shape, NR_VCPUS, b->vcpus);
	b->in_place = vm_has_gmem_attributes(b->vm);
	virt_map(b->vm, GMEM_GPA2, GMEM_GPA2, NR_PAGES);
}

/* Memory that nothing but the memslot and the descriptor refers to. */
static void bind_file(struct bound_vm *b)
{
	b->fd = vm_create_guest_memfd(b->vm, GMEM_SIZE, b->in_place ? GMEM_FLAGS : 0);

	/* In VM mode shared memory would have to come from elsewhere. */
	if (b->in_place)
		to_private(b->fd, 0, NR_PAGES / 2);
	else
		vm_set_memory_attributes(b->vm, GMEM_GPA2, GMEM_SIZE, PRIVATE);

	TEST_ASSERT_EQ(gmem_add_slot(b->vm, GMEM_SLOT2, GMEM_GPA2, NR_PAGES, b->fd, 0), 0);
}

/* Have nothing at GMEM_GPA2. */
static void unbind_file(struct bound_vm *b)
{
	gmem_delete_slot(b->vm, GMEM_SLOT2);

	/* In VM mode it's the VM that says what is private, also without a memslot. */
	if (!b->in_place)
		vm_set_memory_attributes(b->vm, GMEM_GPA2, GMEM_SIZE, 0);
}

static void check_closed(struct kvm_vcpu *vcpu)
{
	struct kvm_pre_fault_memory range = {
		.gpa = GMEM_GPA2,
		.size = GMEM_SIZE,
	};

	/* First and last pages of both states. */
	guest_read_closed(vcpu, GMEM_GPA2);
	guest_read_closed(vcpu, GMEM_GPA2 + (NR_PAGES / 2 - 1) * PAGE_SIZE);
	guest_read_closed(vcpu, GMEM_GPA2 + NR_PAGES / 2 * PAGE_SIZE);
	guest_read_closed(vcpu, GMEM_GPA2 + (NR_PAGES - 1) * PAGE_SIZE);

	TEST_ASSERT_EQ(__vcpu_ioctl(vcpu, KVM_PRE_FAULT_MEMORY, &range), -1);
	TEST_ASSERT_EQ(errno, EFAULT);
}

FIXTURE(closed) {
	struct bound_vm b;
};

FIXTURE_VARIANT(closed) {
	const struct vm_shape *shape;
};

FIXTURE_VARIANT_ADD(closed, in_place) {
	.shape = &in_place_shape,
};

FIXTURE_VARIANT_ADD(closed, default_mode) {
	.shape = &default_mode_shape,
};

FIXTURE_SETUP(closed)
{
	bound_vm_init(&self->b, variant->shape);
}

FIXTURE_TEARDOWN(closed)
{
	kvm_vm_free(self->b.vm);
}

/* C16: Close the last descriptor, and delete and create the memslot after that. */
TEST_F(closed, close)
{
	struct bound_vm *b = &self->b;
	int i;

	for (i = 0; i < 2; i++) {
		bind_file(b);
		__guest_fill(b->vcpus[0], GMEM_GPA2, 0, NR_PAGES, 1);
		kvm_close(b->fd);
		check_closed(b->vcpus[0]);
		check_closed(b->vcpus[1]);

		unbind_file(b);
		guest_read_mmio(b->vcpus[0], GMEM_GPA2);
		guest_read_mmio(b->vcpus[1], GMEM_GPA2 + GMEM_SIZE - PAGE_SIZE);
	}

	bind_file(b);
	ASSERT_EQ(0, guest_read(b->vcpus[0], GMEM_GPA2));
	__guest_fill(b->vcpus[1], GMEM_GPA2, 0, NR_PAGES, 2);
	__guest_check(b->vcpus[0], GMEM_GPA2, 0, NR_PAGES, 2);
	unbind_file(b);
	kvm_close(b->fd);
}

/* A thread that does one thing with a VM, and who it is. */
struct worker {
	pthread_t thread;
	struct bound_vm *b;
	pid_t tid;
};

static void worker_start(struct worker *w, struct bound_vm *b, void *(*fn)(void *))
{
	w->b = b;
	kvm_pthread_create(&w->thread, NULL, fn, w);
}

static void *read_missing_worker(void *data)
{
	struct worker *w = data;

	guest_read(w->b->vcpus[1], MISSING_GPA);
	return NULL;
}

static void *delete_spare_worker(void *data)
{
	struct worker *w = data;

	WRITE_ONCE(w->tid, kvm_gettid());
	vm_set_user_memory_region(w->b->vm, SPARE_SLOT, 0, SPARE_GPA, 0, NULL);
	return NULL;
}

static void *close_worker(void *data)
{
	struct worker *w = data;

	WRITE_ONCE(w->tid, kvm_gettid());
	kvm_close(w->b->fd);
	return NULL;
}

/* Is it in the kernel, and waiting for something that's not a signal? */
static bool is_blocked(struct worker *w)
{
	char path[64], buf[256] = {};
	char *state;
	int fd;

	if (!READ_ONCE(w->tid))
		return false;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", READ_ONCE(w->tid));
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0 && read(fd, buf, sizeof(buf) - 1) > 0, "Failed to read %s", path);
	kvm_close(fd);
	state = strrchr(buf, ')');
	TEST_ASSERT(state, "No state in '%s'", buf);

	return state[2] == 'D';
}

/*
 * C16: Have the file be closed, but not yet be released, for as long as it takes
 * to have a look: the one who closes it waits for somebody who deletes another
 * memslot and waits, in turn, for a vCPU that KVM has fault in plain memory.  KVM
 * may still find pages that are there; for all others, KVM_RUN has to fail at once.
 */
TEST_F(closed, not_yet_released)
{
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_zeropage zeropage = {};
	struct uffdio_api api = { .api = UFFD_API };
	struct worker reader = {}, deleter = {}, closer = {};
	/* A page of each state. */
	const int pages_there[] = { 1, NR_PAGES / 2 + 1 };
	struct bound_vm *b = &self->b;
	struct pollfd poll_uffd;
	struct uffd_msg msg;
	int uffd, i, r;
	void *mem;

	/* KVM is to fault in, too, i.e. not just user mode. */
	uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		SKIP(return, "Needs CONFIG_USERFAULTFD and root");
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_API, &api));

	mem = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	reg.range.start = (u64)mem;
	reg.range.len = PAGE_SIZE;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	vm_set_user_memory_region(b->vm, MISSING_SLOT, 0, MISSING_GPA, PAGE_SIZE, mem);
	vm_set_user_memory_region(b->vm, SPARE_SLOT, 0, SPARE_GPA, PAGE_SIZE, mem + PAGE_SIZE);
	virt_map(b->vm, MISSING_GPA, MISSING_GPA, 1);

	bind_file(b);
	kvm_fallocate(b->fd, FALLOC_FL_KEEP_SIZE, pages_there[0] * PAGE_SIZE, PAGE_SIZE);
	kvm_fallocate(b->fd, FALLOC_FL_KEEP_SIZE, pages_there[1] * PAGE_SIZE, PAGE_SIZE);

	worker_start(&reader, b, read_missing_worker);
	poll_uffd = (struct pollfd) { .fd = uffd, .events = POLLIN };
	ASSERT_EQ(1, poll(&poll_uffd, 1, WAIT_SECONDS * 1000));
	ASSERT_EQ(sizeof(msg), read(uffd, &msg, sizeof(msg)));
	ASSERT_EQ(UFFD_EVENT_PAGEFAULT, msg.event);

	worker_start(&deleter, b, delete_spare_worker);
	WAIT_FOR(is_blocked(&deleter));
	worker_start(&closer, b, close_worker);
	WAIT_FOR(is_blocked(&closer));

	check_closed(b->vcpus[0]);
	for (i = 0; i < ARRAY_SIZE(pages_there); i++) {
		r = guest_read_limited(b->vcpus[0], GMEM_GPA2 + pages_there[i] * PAGE_SIZE);
		ASSERT_TRUE(!r || r == EFAULT);
		TEST_ASSERT_KVM_EXIT_REASON(b->vcpus[0],
					    r ? KVM_EXIT_MEMORY_FAULT : KVM_EXIT_IO);
	}
	ASSERT_TRUE(is_blocked(&deleter));
	ASSERT_TRUE(is_blocked(&closer));

	zeropage.range = reg.range;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_ZEROPAGE, &zeropage));
	kvm_pthread_join(reader.thread, NULL);
	kvm_pthread_join(deleter.thread, NULL);
	kvm_pthread_join(closer.thread, NULL);

	check_closed(b->vcpus[0]);
	check_closed(b->vcpus[1]);
	unbind_file(b);
	guest_read_mmio(b->vcpus[0], GMEM_GPA2);
	guest_read_mmio(b->vcpus[1], GMEM_GPA2 + PAGE_SIZE);

	vm_set_user_memory_region(b->vm, MISSING_SLOT, 0, MISSING_GPA, 0, NULL);
	kvm_close(uffd);
	kvm_munmap(mem, 2 * PAGE_SIZE);
}

static void *own_file_worker(void *data)
{
	struct worker *w = data;

	TEST_ASSERT(!unshare(CLONE_FILES), "unshare() failed, errno %d", errno);
	WRITE_ONCE(w->tid, kvm_gettid());
	WAIT_FOR(!READ_ONCE(w->tid));

	/* Its descriptor is the last one. */
	__guest_check(w->b->vcpus[0], GMEM_GPA2, 0, NR_PAGES, 1);
	kvm_close(w->b->fd);
	check_closed(w->b->vcpus[0]);
	return NULL;
}

static void *exit_worker(void *data)
{
	struct worker *w = data;

	TEST_ASSERT(!unshare(CLONE_FILES), "unshare() failed, errno %d", errno);
	WRITE_ONCE(w->tid, kvm_gettid());
	WAIT_FOR(!READ_ONCE(w->tid));
	return NULL;
}

/* C16: Have the last descriptor be that of the vCPU's own task, or of one that exits. */
TEST_F(closed, other_file_table)
{
	void *(*fns[])(void *) = { own_file_worker, exit_worker };
	struct bound_vm *b = &self->b;
	int i;

	for (i = 0; i < ARRAY_SIZE(fns); i++) {
		struct worker w = {};

		bind_file(b);
		__guest_fill(b->vcpus[0], GMEM_GPA2, 0, NR_PAGES, 1);
		worker_start(&w, b, fns[i]);
		WAIT_FOR(READ_ONCE(w.tid));
		kvm_close(b->fd);
		WRITE_ONCE(w.tid, 0);
		kvm_pthread_join(w.thread, NULL);

		/* A thread is joined first, and loses its descriptors then. */
		WAIT_FOR(guest_read_limited(b->vcpus[1], GMEM_GPA2));
		check_closed(b->vcpus[1]);
		unbind_file(b);
	}
}

/* A vCPU that reads pages at GMEM_GPA2 whatever becomes of them, and what became. */
struct reader {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	u64 nr_closed;
	u64 nr_mmio;
};

static void *reader_worker(void *data)
{
	struct reader *r = data;
	struct kvm_run *run = r->vcpu->run;
	struct ucall uc;

	for (;;) {
		if (_vcpu_run(r->vcpu)) {
			TEST_ASSERT(errno == EFAULT || errno == EHWPOISON,
				    "Unexpected errno %d", errno);
			TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_MEMORY_FAULT);
			WRITE_ONCE(r->nr_closed, r->nr_closed + (errno == EFAULT));
			sched_yield();
		} else if (run->exit_reason == KVM_EXIT_MMIO) {
			memset(run->mmio.data, 0, sizeof(run->mmio.data));
			WRITE_ONCE(r->nr_mmio, r->nr_mmio + 1);
		} else {
			TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_IO);
			TEST_ASSERT_EQ(get_ucall(r->vcpu, &uc), UCALL_SYNC);
			return NULL;
		}
	}
}

static void readers_start(struct bound_vm *b, struct reader *readers)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		readers[i] = (struct reader) { .vcpu = b->vcpus[i] };
		guest_spin_begin(b->vcpus[i], GMEM_GPA2);
		kvm_pthread_create(&readers[i].thread, NULL, reader_worker, &readers[i]);
	}
}

/* Wait until all readers have found what is there now, also those in flight. */
static void wait_for_laps(struct bound_vm *b)
{
	u64 before = guest_spin_laps(b->vm);

	WAIT_FOR(guest_spin_laps(b->vm) > before + 3);
}

static void wait_for_closed(struct reader *readers)
{
	u64 before;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		before = READ_ONCE(readers[i].nr_closed);
		WAIT_FOR(READ_ONCE(readers[i].nr_closed) > before + 1);
	}
}

static void wait_for_mmio(struct reader *readers)
{
	u64 before;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		before = READ_ONCE(readers[i].nr_mmio);
		WAIT_FOR(READ_ONCE(readers[i].nr_mmio) > before + 1);
	}
}

static void readers_stop(struct bound_vm *b, struct reader *readers)
{
	int i;

	guest_spin_end(b->vm);
	for (i = 0; i < NR_VCPUS; i++)
		kvm_pthread_join(readers[i].thread, NULL);
}

/* Have vCPUs fault, until there's nothing left to punch a hole in. */
static void *punch_worker(void *data)
{
	struct worker *w = data;

	while (!fallocate(w->b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  NR_SPIN_PAGES * PAGE_SIZE))
		;
	TEST_ASSERT_EQ(errno, EBADF);
	return NULL;
}

static void *unbind_worker(void *data)
{
	struct worker *w = data;

	unbind_file(w->b);
	return NULL;
}

/*
 * C16, C25: Close the file while vCPUs read it, with faults in flight or without:
 * the last reference to the file can be a vCPU's.  Delete the memslot afterwards
 * or at the same time.
 */
TEST_F(closed, race)
{
	struct reader readers[NR_VCPUS];
	struct bound_vm *b = &self->b;
	int i;

	bind_file(b);
	readers_start(b, readers);
	for (i = 0; i < 8; i++) {
		struct worker puncher = {}, unbinder = {};
		const bool punch = i & 1, race = i & 2;

		wait_for_laps(b);
		if (punch) {
			worker_start(&puncher, b, punch_worker);
			usleep(i * 200);
		}
		if (race)
			worker_start(&unbinder, b, unbind_worker);
		kvm_close(b->fd);
		if (punch)
			kvm_pthread_join(puncher.thread, NULL);

		if (race) {
			kvm_pthread_join(unbinder.thread, NULL);
		} else {
			wait_for_closed(readers);
			unbind_file(b);
		}
		wait_for_mmio(readers);
		bind_file(b);
	}
	wait_for_laps(b);
	readers_stop(b, readers);
	unbind_file(b);
	kvm_close(b->fd);
}

/* Who has the last reference to a file that nobody has a descriptor of. */
struct holder {
	int socks[2];
	int ring;
};

/* Send @nr descriptors by @sock, where nobody is going to receive them. */
static void send_fds(int sock, int *fds, int nr)
{
	char control[CMSG_SPACE(2 * sizeof(int))] = {};
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = CMSG_SPACE(nr * sizeof(int)),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(nr * sizeof(int));
	memcpy(CMSG_DATA(cmsg), fds, nr * sizeof(int));
	TEST_ASSERT_EQ(sendmsg(sock, &msg, 0), 1);
}

static void message_hold(struct holder *h, int fd)
{
	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, h->socks), "socketpair() failed");
	send_fds(h->socks[0], &fd, 1);
}

/* The socket that the message is sent to is in the message: garbage, once it's closed. */
static void cycle_hold(struct holder *h, int fd)
{
	int fds[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, h->socks), "socketpair() failed");
	fds[0] = h->socks[1];
	fds[1] = fd;
	send_fds(h->socks[0], fds, 2);
}

static void sockets_drop(struct holder *h)
{
	kvm_close(h->socks[1]);
	kvm_close(h->socks[0]);
}

static void io_uring_hold(struct holder *h, int fd)
{
	struct io_uring_params params = {};

	h->ring = io_uring_setup(1, &params);
	TEST_ASSERT(h->ring >= 0, "io_uring_setup() failed");
	TEST_ASSERT(!syscall(__NR_io_uring_register, h->ring, IORING_REGISTER_FILES, &fd, 1),
		    "IORING_REGISTER_FILES failed, errno %d", errno);
}

static void io_uring_drop(struct holder *h)
{
	kvm_close(h->ring);
}

static void *rebind_worker(void *data)
{
	struct worker *w = data;

	unbind_file(w->b);
	bind_file(w->b);
	return NULL;
}

FIXTURE(last) {
	struct holder h;
};

FIXTURE_VARIANT(last) {
	void (*hold)(struct holder *h, int fd);
	void (*drop)(struct holder *h);
};

FIXTURE_VARIANT_ADD(last, message) {
	.hold = message_hold,
	.drop = sockets_drop,
};

FIXTURE_VARIANT_ADD(last, cycle) {
	.hold = cycle_hold,
	.drop = sockets_drop,
};

FIXTURE_VARIANT_ADD(last, io_uring) {
	.hold = io_uring_hold,
	.drop = io_uring_drop,
};

FIXTURE_SETUP(last)
{
	struct io_uring_params params = {};
	int ring;

	if (variant->hold != io_uring_hold)
		return;

	ring = io_uring_setup(1, &params);
	if (ring < 0)
		SKIP(return, "Needs CONFIG_IO_URING, and kernel.io_uring_disabled to be 0");
	kvm_close(ring);
}

FIXTURE_TEARDOWN(last)
{
}

/*
 * C16, C18, C25: Have somebody hold the last reference to the file, and the guest
 * its memory.  It's gone when the reference is dropped, in whichever context that
 * is; delete and create the memslot at the same time, or afterwards.
 */
TEST_F(last, reference)
{
	const struct vm_shape *shapes[] = { &in_place_shape, &default_mode_shape };
	const bool has_inodes = has_slab_objects(INODE_CACHE);
	u64 before = has_inodes ? settled(nr_inodes, -1) : 0;
	struct reader readers[NR_VCPUS];
	struct bound_vm b;
	int i, j;

	for (i = 0; i < ARRAY_SIZE(shapes); i++) {
		bound_vm_init(&b, shapes[i]);
		bind_file(&b);
		readers_start(&b, readers);

		for (j = 0; j < 4; j++) {
			struct worker rebinder = {};

			variant->hold(&self->h, b.fd);
			kvm_close(b.fd);
			wait_for_laps(&b);
			if (j & 1)
				worker_start(&rebinder, &b, rebind_worker);
			variant->drop(&self->h);
			if (j & 1) {
				kvm_pthread_join(rebinder.thread, NULL);
			} else {
				wait_for_closed(readers);
				unbind_file(&b);
				wait_for_mmio(readers);
				bind_file(&b);
			}
			wait_for_laps(&b);
		}

		readers_stop(&b, readers);
		__guest_fill(b.vcpus[0], GMEM_GPA2, 0, NR_PAGES, 1);
		__guest_check(b.vcpus[1], GMEM_GPA2, 0, NR_PAGES, 1);
		kvm_close(b.fd);
		kvm_vm_free(b.vm);
	}

	if (has_inodes)
		ASSERT_GE(before, settled(nr_inodes, before));
}

static u64 get_pfn(void *mem)
{
	u64 entry;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY);
	TEST_ASSERT(fd >= 0, "Failed to open /proc/self/pagemap");
	TEST_ASSERT_EQ(pread(fd, &entry, sizeof(entry), (u64)mem / PAGE_SIZE * sizeof(entry)),
		       sizeof(entry));
	kvm_close(fd);
	TEST_ASSERT(entry & BIT_ULL(63) && entry & GENMASK_ULL(54, 0), "No pfn for %p", mem);

	return entry & GENMASK_ULL(54, 0);
}

/*
 * C16, C25: Close the file, delete the memslot and poison a page, all at the same
 * time: each invalidates what the guest has mapped, and none may leave KVM behind
 * that takes an invalidation for unfinished, i.e. retries faults for ever.
 */
TEST(unbind_while_closing)
{
	int fd, i, len, nr_poisoned = 0;
	struct reader readers[NR_VCPUS];
	struct bound_vm b;
	char buf[32];
	u8 *mem;

	fd = open(CORRUPT_PFN, O_WRONLY);
	if (fd < 0)
		SKIP(return, "Needs CONFIG_HWPOISON_INJECT, debugfs and root");

	bound_vm_init(&b, &in_place_shape);
	bind_file(&b);
	readers_start(&b, readers);

	for (i = 0; i < 10; i++) {
		struct worker closer = {}, unbinder = {};

		/* A page that vCPUs have mapped. */
		mem = kvm_mmap(GMEM_SIZE, PROT_READ, MAP_SHARED, b.fd);
		to_shared(b.fd, i, 1);
		host_read(mem, i);
		len = snprintf(buf, sizeof(buf), "0x%lx", get_pfn(page_hva(mem, i)));
		kvm_munmap(mem, GMEM_SIZE);
		wait_for_laps(&b);

		worker_start(&unbinder, &b, unbind_worker);
		worker_start(&closer, &b, close_worker);
		/* EBUSY is for a page that is in use, as others are. */
		nr_poisoned += write(fd, buf, len) == len || errno == EBUSY;
		kvm_pthread_join(unbinder.thread, NULL);
		kvm_pthread_join(closer.thread, NULL);

		/* The same addresses, all over again. */
		bind_file(&b);
		wait_for_laps(&b);
	}
	readers_stop(&b, readers);
	__guest_fill(b.vcpus[0], GMEM_GPA2, 0, NR_PAGES, 1);
	__guest_check(b.vcpus[1], GMEM_GPA2, 0, NR_PAGES, 1);

	TH_LOG("%d of %d pages were poisoned", nr_poisoned, i);
	ASSERT_LT(0, nr_poisoned);
	kvm_close(b.fd);
	kvm_vm_free(b.vm);
	kvm_close(fd);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
