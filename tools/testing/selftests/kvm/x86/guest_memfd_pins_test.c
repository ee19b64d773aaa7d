// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that a page of a guest_memfd isn't made private while somebody other than
 * the guest uses it, and only then.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/falloc.h>
#include <linux/userfaultfd.h>

#include "gmem_fixture.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#include <io_uring/mini_liburing.h>

#include "../../../../../drivers/iommu/iommufd/iommufd_test.h"

#define RAM_DISK	"/dev/ram0"

struct pin;

/* A kind of pin.  The functions for what its holder can't do are NULL. */
struct pin_ops {
	/* Returns what the kernel lacks, or NULL. */
	const char *(*missing)(void);

	/* Returns the errno.  Unless that's 0, nothing stays pinned. */
	int (*take)(struct pin *pin);
	void (*release)(struct pin *pin);

	/*
	 * Copy what's pinned to the_copy, or the other way round.  May be what
	 * the holder has been waiting for, i.e. may be the end of the pin.
	 */
	void (*read)(struct pin *pin);
	void (*write)(struct pin *pin);
};

struct pin {
	const struct pin_ops *ops;
	u8 *mem;
	int first;
	int nr;

	int fd;
	union {
		int pipe_fds[2];
		struct io_uring ring;
		int access_fd;
		struct {
			pthread_t thread;
			bool is_write;
			bool in_flight;
			void *gap;
			int uffd;
			int done_fd;
			ssize_t ret;
			int error;
		} io;
	};
};

static u8 the_copy[GMEM_SIZE] __aligned(PAGE_SIZE);

static void *pin_mem(struct pin *pin)
{
	return page_hva(pin->mem, pin->first);
}

static void *pin_copy(struct pin *pin)
{
	return page_hva(the_copy, pin->first);
}

static size_t pin_size(struct pin *pin)
{
	return pin->nr * PAGE_SIZE;
}

static struct iovec pin_iov(struct pin *pin)
{
	return (struct iovec) { .iov_base = pin_mem(pin), .iov_len = pin_size(pin) };
}

static void open_pipe(int fds[2])
{
	TEST_ASSERT(!pipe(fds), "pipe() failed");
}

/* The kernel's own test of long-term pins. */
static const char *gup_test_missing(void)
{
	int fd = gup_test_open();

	if (fd < 0)
		return "CONFIG_GUP_TEST, debugfs and root";

	kvm_close(fd);
	return NULL;
}

static int gup_test_take(struct pin *pin)
{
	int r;

	pin->fd = gup_test_open();
	TEST_ASSERT(pin->fd >= 0, "No gup_test");

	r = gup_test_pin(pin->fd, pin_mem(pin), pin_size(pin));
	if (r)
		kvm_close(pin->fd);
	return r;
}

static void gup_test_pin_read(struct pin *pin)
{
	gup_test_read(pin->fd, pin_copy(pin));
}

static void gup_test_release(struct pin *pin)
{
	gup_test_unpin(pin->fd);
	kvm_close(pin->fd);
}

static const struct pin_ops gup_test_ops = {
	.missing = gup_test_missing,
	.take = gup_test_take,
	.read = gup_test_pin_read,
	.release = gup_test_release,
};

/* A buffer that's registered with an io_uring. */
static const char *io_uring_missing(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(1, &ring, 0))
		return "CONFIG_IO_URING, and kernel.io_uring_disabled to be 0";

	io_uring_queue_exit(&ring);
	return NULL;
}

static int io_uring_take(struct pin *pin)
{
	struct iovec iov = pin_iov(pin);
	int r;

	TEST_ASSERT(!io_uring_queue_init(1, &pin->ring, 0), "No io_uring");

	r = -io_uring_register_buffers(&pin->ring, &iov, 1);
	if (r)
		io_uring_queue_exit(&pin->ring);
	return r;
}

static void io_uring_rw(struct pin *pin, int opcode, int fd)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&pin->ring);
	struct io_uring_cqe *cqe;

	*sqe = (struct io_uring_sqe) {
		.opcode = opcode,
		.fd = fd,
		.addr = (u64)pin_mem(pin),
		.len = pin_size(pin),
	};
	TEST_ASSERT_EQ(io_uring_submit(&pin->ring), 1);
	TEST_ASSERT_EQ(io_uring_wait_cqe(&pin->ring, &cqe), 0);
	TEST_ASSERT_EQ(cqe->res, pin_size(pin));
	io_uring_cqe_seen(&pin->ring);
}

static void io_uring_read(struct pin *pin)
{
	int pipe_fds[2];

	open_pipe(pipe_fds);
	io_uring_rw(pin, IORING_OP_WRITE_FIXED, pipe_fds[1]);
	TEST_ASSERT_EQ(read(pipe_fds[0], pin_copy(pin), pin_size(pin)), pin_size(pin));
	kvm_close(pipe_fds[0]);
	kvm_close(pipe_fds[1]);
}

static void io_uring_write(struct pin *pin)
{
	int pipe_fds[2];

	open_pipe(pipe_fds);
	TEST_ASSERT_EQ(write(pipe_fds[1], pin_copy(pin), pin_size(pin)), pin_size(pin));
	io_uring_rw(pin, IORING_OP_READ_FIXED, pipe_fds[0]);
	kvm_close(pipe_fds[0]);
	kvm_close(pipe_fds[1]);
}

static void io_uring_release(struct pin *pin)
{
	int r = syscall(__NR_io_uring_register, pin->ring.ring_fd,
			IORING_UNREGISTER_BUFFERS, NULL, 0);

	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("IORING_UNREGISTER_BUFFERS", r));
	io_uring_queue_exit(&pin->ring);
}

static const struct pin_ops io_uring_ops = {
	.missing = io_uring_missing,
	.take = io_uring_take,
	.read = io_uring_read,
	.write = io_uring_write,
	.release = io_uring_release,
};

/* What iommufd maps for a device, here for one that doesn't exist. */
static int iommufd_test(int fd, struct iommu_test_cmd *cmd)
{
	cmd->size = sizeof(*cmd);
	return ioctl(fd, IOMMU_TEST_CMD, cmd);
}

/* Returns an I/O address space with a device in it, in which nothing is mapped. */
static int iommufd_open(u32 *ioas_id)
{
	struct iommu_ioas_alloc alloc = {
		.size = sizeof(alloc),
	};
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
	};
	int fd;

	fd = open("/dev/iommu", O_RDWR);
	if (fd < 0)
		return fd;

	if (!ioctl(fd, IOMMU_IOAS_ALLOC, &alloc)) {
		*ioas_id = alloc.out_ioas_id;
		cmd.id = alloc.out_ioas_id;
		if (!iommufd_test(fd, &cmd))
			return fd;
	}

	kvm_close(fd);
	return -1;
}

static const char *iommufd_missing(void)
{
	u32 ioas_id;
	int fd = iommufd_open(&ioas_id);

	if (fd < 0)
		return "CONFIG_IOMMUFD_TEST and root";

	kvm_close(fd);
	return NULL;
}

static int iommufd_take(struct pin *pin)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_WRITEABLE |
			 IOMMU_IOAS_MAP_READABLE,
		.user_va = (u64)pin_mem(pin),
		.length = pin_size(pin),
		.iova = MOCK_APERTURE_START,
	};
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_CREATE_ACCESS,
	};
	int r;

	pin->fd = iommufd_open(&map.ioas_id);
	TEST_ASSERT(pin->fd >= 0, "No iommufd");

	if (ioctl(pin->fd, IOMMU_IOAS_MAP, &map)) {
		r = errno;
		kvm_close(pin->fd);
		return r;
	}

	/* A second user, which finds the pages by the mapping of the first. */
	cmd.id = map.ioas_id;
	r = iommufd_test(pin->fd, &cmd);
	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("IOMMU_TEST_OP_CREATE_ACCESS", r));
	pin->access_fd = cmd.create_access.out_access_fd;

	return 0;
}

static void iommufd_rw(struct pin *pin, u32 flags)
{
	struct iommu_test_cmd cmd = {
		.op = IOMMU_TEST_OP_ACCESS_RW,
		.id = pin->access_fd,
		.access_rw = {
			.iova = MOCK_APERTURE_START,
			.length = pin_size(pin),
			.uptr = (u64)pin_copy(pin),
			/* Don't go by the virtual address that was mapped. */
			.flags = flags | MOCK_ACCESS_RW_SLOW_PATH,
		},
	};
	int r = iommufd_test(pin->fd, &cmd);

	TEST_ASSERT(!r, __KVM_SYSCALL_ERROR("IOMMU_TEST_OP_ACCESS_RW", r));
}

static void iommufd_read(struct pin *pin)
{
	iommufd_rw(pin, 0);
}

static void iommufd_write(struct pin *pin)
{
	iommufd_rw(pin, MOCK_ACCESS_RW_WRITE);
}

static void iommufd_release(struct pin *pin)
{
	kvm_close(pin->access_fd);
	kvm_close(pin->fd);
}

static const struct pin_ops iommufd_ops = {
	.missing = iommufd_missing,
	.take = iommufd_take,
	.read = iommufd_read,
	.write = iommufd_write,
	.release = iommufd_release,
};

/*
 * Direct I/O to and from a disk, in flight: by the time it gets to the gap, which
 * nobody has filled yet, it has pinned the pages before that, and waits.
 */
static void *direct_io_worker(void *arg)
{
	struct pin *pin = arg;
	struct iovec iovs[] = {
		pin_iov(pin),
		{ .iov_base = pin->io.gap, .iov_len = PAGE_SIZE },
	};
	off_t offset = pin->first * PAGE_SIZE;
	u64 done = 1;

	if (pin->io.is_write)
		pin->io.ret = pwritev(pin->fd, iovs, ARRAY_SIZE(iovs), offset);
	else
		pin->io.ret = preadv(pin->fd, iovs, ARRAY_SIZE(iovs), offset);
	pin->io.error = errno;

	TEST_ASSERT_EQ(write(pin->io.done_fd, &done, sizeof(done)), sizeof(done));
	return NULL;
}

static int open_disk(void)
{
	return open(RAM_DISK, O_RDWR | O_DIRECT);
}

/* Returns a userfaultfd that reports when @mem, a page, is needed. */
static int open_gap(void *mem)
{
	struct uffdio_api api = {
		.api = UFFD_API,
	};
	struct uffdio_register reg = {
		.range = { .start = (u64)mem, .len = PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd;

	/* Without O_NONBLOCK, it can't be polled. */
	fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fd;

	TEST_ASSERT(!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg),
		    "Failed to set up userfaultfd");
	return fd;
}

static const char *direct_io_missing(void)
{
	void *mem;
	int fd;

	fd = open_disk();
	if (fd < 0)
		return "CONFIG_BLK_DEV_RAM and root";
	kvm_close(fd);

	mem = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	fd = open_gap(mem);
	kvm_munmap(mem, PAGE_SIZE);
	if (fd < 0)
		return "CONFIG_USERFAULTFD and root";
	kvm_close(fd);

	return NULL;
}

/* Returns how much was done.  Is to be called once. */
static ssize_t direct_io_finish(struct pin *pin)
{
	struct uffdio_zeropage zero = {
		.range = { .start = (u64)pin->io.gap, .len = PAGE_SIZE },
	};

	if (pin->io.in_flight)
		TEST_ASSERT(!ioctl(pin->io.uffd, UFFDIO_ZEROPAGE, &zero),
			    "Failed to resolve a fault");
	pin->io.in_flight = false;

	kvm_pthread_join(pin->io.thread, NULL);
	kvm_close(pin->io.uffd);
	kvm_close(pin->io.done_fd);
	kvm_munmap(pin->io.gap, PAGE_SIZE);
	kvm_close(pin->fd);

	return pin->io.ret;
}

static int direct_io_take(struct pin *pin, bool is_write)
{
	struct pollfd fds[2];
	struct uffd_msg msg;

	pin->fd = open_disk();
	pin->io.is_write = is_write;
	pin->io.gap = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	pin->io.uffd = open_gap(pin->io.gap);
	pin->io.done_fd = eventfd(0, 0);
	TEST_ASSERT(pin->fd >= 0 && pin->io.uffd >= 0 && pin->io.done_fd >= 0,
		    "No direct I/O");

	kvm_pthread_create(&pin->io.thread, NULL, direct_io_worker, pin);

	fds[0] = (struct pollfd) { .fd = pin->io.uffd, .events = POLLIN };
	fds[1] = (struct pollfd) { .fd = pin->io.done_fd, .events = POLLIN };
	TEST_ASSERT_EQ(poll(fds, ARRAY_SIZE(fds), -1), 1);

	pin->io.in_flight = fds[0].revents & POLLIN;
	if (!pin->io.in_flight) {
		/* It does what it can if not all of it can be done. */
		direct_io_finish(pin);
		return pin->io.ret < 0 ? pin->io.error : EFAULT;
	}

	TEST_ASSERT_EQ(read(pin->io.uffd, &msg, sizeof(msg)), sizeof(msg));
	TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	TEST_ASSERT_EQ(msg.arg.pagefault.address, (u64)pin->io.gap);
	return 0;
}

static void direct_io_release(struct pin *pin)
{
	if (pin->io.in_flight)
		TEST_ASSERT_EQ(direct_io_finish(pin), pin_size(pin) + PAGE_SIZE);
}

static int direct_write_take(struct pin *pin)
{
	return direct_io_take(pin, true);
}

static void direct_write_read(struct pin *pin)
{
	int fd = open_disk();

	direct_io_release(pin);
	TEST_ASSERT_EQ(pread(fd, pin_copy(pin), pin_size(pin), pin->first * PAGE_SIZE),
		       pin_size(pin));
	kvm_close(fd);
}

static const struct pin_ops direct_write_ops = {
	.missing = direct_io_missing,
	.take = direct_write_take,
	.read = direct_write_read,
	.release = direct_io_release,
};

static int direct_read_take(struct pin *pin)
{
	int fd = open_disk();

	/* Have the disk know what's there, so that reading it changes nothing. */
	if (pwrite(fd, pin_mem(pin), pin_size(pin), pin->first * PAGE_SIZE) < 0)
		TEST_ASSERT_EQ(errno, EFAULT);
	kvm_close(fd);

	return direct_io_take(pin, false);
}

static void direct_read_write(struct pin *pin)
{
	int fd = open_disk();

	TEST_ASSERT_EQ(pwrite(fd, pin_copy(pin), pin_size(pin), pin->first * PAGE_SIZE),
		       pin_size(pin));
	kvm_close(fd);
	direct_io_release(pin);
}

static const struct pin_ops direct_read_ops = {
	.missing = direct_io_missing,
	.take = direct_read_take,
	.write = direct_read_write,
	.release = direct_io_release,
};

/* A pipe, which has plain references, i.e. they don't count as pins. */
static const char *vmsplice_missing(void)
{
	return NULL;
}

static int vmsplice_take(struct pin *pin)
{
	struct iovec iov = pin_iov(pin);
	ssize_t len;
	int r;

	open_pipe(pin->pipe_fds);
	len = vmsplice(pin->pipe_fds[1], &iov, 1, SPLICE_F_NONBLOCK);
	if (len == pin_size(pin))
		return 0;

	r = len < 0 ? errno : EFAULT;
	kvm_close(pin->pipe_fds[0]);
	kvm_close(pin->pipe_fds[1]);
	return r;
}

static void vmsplice_read(struct pin *pin)
{
	TEST_ASSERT_EQ(read(pin->pipe_fds[0], pin_copy(pin), pin_size(pin)), pin_size(pin));
}

static void vmsplice_release(struct pin *pin)
{
	kvm_close(pin->pipe_fds[0]);
	kvm_close(pin->pipe_fds[1]);
}

static const struct pin_ops vmsplice_ops = {
	.missing = vmsplice_missing,
	.take = vmsplice_take,
	.read = vmsplice_read,
	.release = vmsplice_release,
};

/* Whoever has the pin: this process or, if it has a pid, another. */
struct holder {
	struct pin pin;
	pid_t pid;
	int sock;
};

enum holder_op {
	HOLDER_TAKE,
	HOLDER_WRITE,
	HOLDER_CHECK,
	HOLDER_RELEASE,
};

struct holder_cmd {
	enum holder_op op;
	int first;
	int nr;
	int generation;
};

static int __holder_do(struct pin *pin, struct holder_cmd *cmd)
{
	switch (cmd->op) {
	case HOLDER_TAKE:
		pin->first = cmd->first;
		pin->nr = cmd->nr;
		return pin->ops->take(pin);
	case HOLDER_WRITE:
		if (!pin->ops->write)
			return false;
		host_fill(the_copy, pin->first, pin->nr, cmd->generation);
		pin->ops->write(pin);
		return true;
	case HOLDER_CHECK:
		if (!pin->ops->read)
			return false;
		memset(pin_copy(pin), 0, pin_size(pin));
		pin->ops->read(pin);
		host_check(the_copy, pin->first, pin->nr, cmd->generation);
		return true;
	case HOLDER_RELEASE:
		pin->ops->release(pin);
		return 0;
	}
	TEST_FAIL("Unexpected command %d", cmd->op);
}

static int holder_do(struct holder *holder, struct holder_cmd cmd)
{
	int r;

	if (!holder->pid)
		return __holder_do(&holder->pin, &cmd);

	TEST_ASSERT_EQ(send(holder->sock, &cmd, sizeof(cmd), MSG_NOSIGNAL), sizeof(cmd));
	TEST_ASSERT(recv(holder->sock, &r, sizeof(r), 0) == sizeof(r),
		    "The pin's holder has died");
	return r;
}

/* Returns the errno. */
static int holder_take(struct holder *holder, int first, int nr)
{
	return holder_do(holder, (struct holder_cmd) {
		.op = HOLDER_TAKE,
		.first = first,
		.nr = nr,
	});
}

static void holder_release(struct holder *holder)
{
	holder_do(holder, (struct holder_cmd) { .op = HOLDER_RELEASE });
}

/* Write through the pin.  Returns false if that isn't possible. */
static bool holder_write(struct holder *holder, int generation)
{
	return holder_do(holder, (struct holder_cmd) {
		.op = HOLDER_WRITE,
		.generation = generation,
	});
}

/* Read through the pin if that's possible, and verify what's there. */
static void holder_check(struct holder *holder, int generation)
{
	holder_do(holder, (struct holder_cmd) {
		.op = HOLDER_CHECK,
		.generation = generation,
	});
}

/*
 * Have another process do what @holder is told to do: one that has inherited the
 * mapping of the guest_memfd or, if @fd isn't -1, has only been handed that.
 */
static void holder_fork(struct holder *holder, int fd)
{
	struct holder_cmd cmd;
	int socks[2], r;

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, socks), "socketpair() failed");

	holder->pid = fork();
	TEST_ASSERT(holder->pid >= 0, "fork() failed");
	if (holder->pid) {
		kvm_close(socks[1]);
		holder->sock = socks[0];
		if (fd >= 0)
			send_fd(holder->sock, fd);
		return;
	}

	kvm_close(socks[0]);
	if (fd >= 0) {
		kvm_munmap(holder->pin.mem, GMEM_SIZE);
		kvm_close(fd);
		fd = receive_fd(socks[1]);
		holder->pin.mem = kvm_mmap(GMEM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	}

	while (recv(socks[1], &cmd, sizeof(cmd), 0) == sizeof(cmd)) {
		r = __holder_do(&holder->pin, &cmd);
		TEST_ASSERT_EQ(send(socks[1], &r, sizeof(r), MSG_NOSIGNAL), sizeof(r));
	}
	_exit(0);
}

static int holder_reap(struct holder *holder)
{
	int status;

	kvm_close(holder->sock);
	TEST_ASSERT_EQ(waitpid(holder->pid, &status, 0), holder->pid);
	holder->pid = 0;
	return status;
}

FIXTURE(pins) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
	struct holder holder;
};

FIXTURE_VARIANT(pins) {
	const struct pin_ops *ops;
};

FIXTURE_VARIANT_ADD(pins, gup_test) {
	.ops = &gup_test_ops,
};

FIXTURE_VARIANT_ADD(pins, io_uring) {
	.ops = &io_uring_ops,
};

FIXTURE_VARIANT_ADD(pins, iommufd) {
	.ops = &iommufd_ops,
};

FIXTURE_VARIANT_ADD(pins, direct_read) {
	.ops = &direct_read_ops,
};

FIXTURE_VARIANT_ADD(pins, direct_write) {
	.ops = &direct_write_ops,
};

FIXTURE_VARIANT_ADD(pins, vmsplice) {
	.ops = &vmsplice_ops,
};

FIXTURE_SETUP(pins)
{
	const char *missing = variant->ops->missing();
	struct gmem_vm gmem;

	if (missing)
		SKIP(return, "Needs %s", missing);

	gmem_vm_create(&gmem, GMEM_FLAGS);
	self->vcpu = gmem.vcpu;
	self->vm = gmem.vm;
	self->mem = gmem.mem;
	self->fd = gmem.fd;
	self->holder.pin.ops = variant->ops;
	self->holder.pin.mem = gmem.mem;

	host_fill(self->mem, 0, NR_PAGES, 1);
}

FIXTURE_TEARDOWN(pins)
{
	if (self->holder.pid)
		EXPECT_EQ(0, holder_reap(&self->holder));
	if (self->vm) {
		kvm_close(self->fd);
		kvm_vm_free(self->vm);
	}
}

/* Count faults: of the guest on @state's private pages, or of the host on shared ones. */
static long count_faults(struct kvm_vcpu *vcpu, u8 *mem, u64 state, bool private)
{
	long faults = 0;
	int i, nr;

	for (i = 0; i < NR_PAGES; i += nr) {
		for (nr = 1; i + nr < NR_PAGES; nr++) {
			if (!(state & BIT_ULL(i)) != !(state & BIT_ULL(i + nr)))
				break;
		}
		if (!(state & BIT_ULL(i)) == private)
			continue;
		faults += private ? guest_faults(vcpu, i, nr) : host_faults(mem, i, nr);
	}
	return faults;
}

/* C4, C5, C6, C7, C8, C14: Convert ranges with pinned pages, and all around them. */
TEST_F(pins, refused)
{
	const struct {
		u64 state;
		int first;
		int nr;
	} pinned[] = {
		{ MIXED, 10, 3 },
		{ MIXED, 59, 1 },
		{ ~MIXED, 0, 1 },
		{ ~MIXED, 63, 1 },
		{ ~MIXED, 20, 16 },
	};
	int i, j, first, last, nr;
	u64 error_page;

	for (i = 0; i < ARRAY_SIZE(pinned); i++) {
		const u64 state = pinned[i].state;

		first = pinned[i].first;
		nr = pinned[i].nr;
		last = first + nr - 1;

		const struct {
			int first;
			int nr;
			int error_page;
		} ranges[] = {
			{ 0, NR_PAGES, first },
			{ 0, first + 1, first },
			{ 0, last + 1, first },
			{ first, nr, first },
			{ first, NR_PAGES - first, first },
			{ last, 1, last },
			{ last, NR_PAGES - last, last },
			{ first + nr / 2, NR_PAGES - first - nr / 2, first + nr / 2 },
		};

		/* Have everything mapped that can be. */
		set_state(self->fd, state);
		count_faults(NULL, self->mem, state, false);
		guest_faults(self->vcpu, 0, NR_PAGES);

		ASSERT_EQ(0, holder_take(&self->holder, first, nr));
		for (j = 0; j < ARRAY_SIZE(ranges); j++) {
			ASSERT_EQ(EAGAIN, try_private(self->fd, ranges[j].first, ranges[j].nr,
						      &error_page));
			ASSERT_EQ(ranges[j].error_page, error_page);
		}

		/* Nothing has changed, and private pages have stayed mapped. */
		ASSERT_EQ(0, count_faults(self->vcpu, NULL, state, true));
		check_state(self->mem, state);

		/* To shared, pins don't matter. */
		to_shared(self->fd, first, nr);
		to_shared(self->fd, 0, NR_PAGES);
		host_check(self->mem, 0, NR_PAGES, 1);

		/* The pages on both sides can become private. */
		if (first)
			to_private(self->fd, 0, first);
		if (last < NR_PAGES - 1)
			to_private(self->fd, last + 1, NR_PAGES - last - 1);
		ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
		ASSERT_EQ(first, error_page);
		check_state(self->mem, ~pages(first, nr));

		holder_release(&self->holder);
		ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));
		guest_check(self->vcpu, 0, NR_PAGES, 1);
	}
	check_state(self->mem, ALL_PAGES);
}

/* Pin pages, use the pin, let go of it, and find that it can't be had again. */
static void __test_let_go(struct __test_metadata *_metadata, FIXTURE_DATA(pins) * self)
{
	struct kvm_memory_attributes2 attr = {
		.size = GMEM_SIZE,
		.attributes = PRIVATE,
	};

	ASSERT_EQ(0, holder_take(&self->holder, 10, 3));

	/* Repeat the call with the same struct. */
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr.error_offset);
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr.error_offset);

	/* The pin is as good as it was. */
	if (!holder_write(&self->holder, 2))
		host_fill(self->mem, 10, 3, 2);
	holder_check(&self->holder, 2);
	host_check(self->mem, 10, 3, 2);
	holder_release(&self->holder);

	ASSERT_EQ(0, set_attributes(self->fd, &attr));
	check_state(self->mem, ALL_PAGES);
	guest_check(self->vcpu, 0, 10, 1);
	guest_check(self->vcpu, 10, 3, 2);
	guest_check(self->vcpu, 13, NR_PAGES - 13, 1);

	/* Pin a range that isn't all shared, which fails. */
	ASSERT_EQ(EFAULT, holder_take(&self->holder, 10, 3));
	to_shared(self->fd, 10, 2);
	ASSERT_EQ(EFAULT, holder_take(&self->holder, 10, 3));
	ASSERT_EQ(EFAULT, holder_take(&self->holder, 12, 1));
	to_private(self->fd, 10, 2);
	guest_check(self->vcpu, 10, 3, 2);

	to_shared(self->fd, 10, 3);
	ASSERT_EQ(0, holder_take(&self->holder, 10, 3));
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, &attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr.error_offset);
	holder_check(&self->holder, 2);
	holder_release(&self->holder);
	ASSERT_EQ(0, set_attributes(self->fd, &attr));
	check_state(self->mem, ALL_PAGES);
}

/* C4, C6, C9: Pin pages, let go of them, convert them, and try to pin them again. */
TEST_F(pins, let_go)
{
	__test_let_go(_metadata, self);
}

/* C4, C6, C9: Do the same with pins of a child, which has inherited the mapping. */
TEST_F(pins, let_go_by_child)
{
	holder_fork(&self->holder, -1);
	__test_let_go(_metadata, self);
}

/* C4, C6, C9: Do the same with pins of a process that was sent the file, and kill it. */
TEST_F(pins, let_go_by_stranger)
{
	u64 error_page, retries;
	int status;

	holder_fork(&self->holder, self->fd);
	__test_let_go(_metadata, self);

	to_shared(self->fd, 0, NR_PAGES);
	ASSERT_EQ(0, holder_take(&self->holder, 10, 3));
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);

	ASSERT_EQ(0, kill(self->holder.pid, SIGKILL));
	status = holder_reap(&self->holder);
	ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

	/* Cleaning up may be left to a worker. */
	retries = retry_private(self->fd, 0, NR_PAGES);
	TH_LOG("%lu retries after the holder's death", retries);
	check_state(self->mem, ALL_PAGES);
}

/* C4, C5, C6, C8: Pin several pages, and verify that the first one is reported. */
TEST_F(pins, several)
{
	int pipe_fds[2], pipe_fds2[2];
	char buf[PAGE_SIZE];
	u64 error_page;

	/* The first one counts, whoever has it. */
	ASSERT_EQ(0, holder_take(&self->holder, 10, 2));
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 5)));
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(5, error_page);
	unsplice_page(pipe_fds, buf);

	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 10)));
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds2, page_hva(self->mem, 20)));

	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 12, NR_PAGES - 12, &error_page));
	ASSERT_EQ(20, error_page);

	holder_release(&self->holder);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(0, try_private(self->fd, 11, 1, &error_page));

	ASSERT_EQ(0, holder_take(&self->holder, 10, 1));
	unsplice_page(pipe_fds, buf);
	ASSERT_EQ(page_val(10, 1), *(u64 *)buf);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);

	holder_release(&self->holder);
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(20, error_page);
	check_state(self->mem, pages(11, 1));

	unsplice_page(pipe_fds2, buf);
	ASSERT_EQ(page_val(20, 1), *(u64 *)buf);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));
	guest_check(self->vcpu, 0, NR_PAGES, 1);
}

/* C4, C12, C25: Use a pinned page after it was punched out, and after its VM is gone. */
TEST_F(pins, outlive)
{
	u64 error_page;

	ASSERT_EQ(0, holder_take(&self->holder, 10, 3));
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      10 * PAGE_SIZE, 3 * PAGE_SIZE);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));

	guest_fill(self->vcpu, 10, 3, 2);
	holder_check(&self->holder, holder_write(&self->holder, 3) ? 3 : 1);
	guest_check(self->vcpu, 10, 3, 2);
	holder_release(&self->holder);

	/* Page 20 is allocated by being pinned. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, GMEM_SIZE);
	to_shared(self->fd, 20, 3);
	host_fill(self->mem, 21, 2, 1);
	ASSERT_EQ(0, holder_take(&self->holder, 20, 3));
	ASSERT_EQ(EAGAIN, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(20, error_page);
	ASSERT_EQ(0, host_read(self->mem, 20));
	host_fill(self->mem, 20, 1, 1);

	kvm_close(self->fd);
	kvm_vm_free(self->vm);
	self->vm = NULL;

	holder_check(&self->holder, holder_write(&self->holder, 2) ? 2 : 1);
	holder_release(&self->holder);
}

/* C4, C6, C12, C25: Convert ranges with poisoned pages, and punch these out. */
TEST_F(gmem, poisoned)
{
	struct kvm_run *run = self->vcpu->run;
	int gup_fd = gup_test_open();
	char buf[PAGE_SIZE];
	int pipe_fds[2], r;
	u64 error_page;

	set_state(self->fd, 0);
	host_fill(self->mem, 0, NR_PAGES, 1);
	guest_check(self->vcpu, 0, NR_PAGES, 1);

	r = poison_page(page_hva(self->mem, 10));
	if (r == EINVAL || r == EPERM)
		SKIP(return, "No MADV_HWPOISON, needs CONFIG_MEMORY_FAILURE and root");
	ASSERT_EQ(0, r);

	/* The guest no longer has it, and may go on with the others. */
	guest_check(self->vcpu, 0, 10, 1);
	guest_check(self->vcpu, 11, NR_PAGES - 11, 1);
	ASSERT_EQ(EHWPOISON, try_guest_read(self->vcpu, page_gpa(10)));
	ASSERT_EQ(KVM_EXIT_MEMORY_FAULT, run->exit_reason);
	ASSERT_EQ(page_gpa(10), run->memory_fault.gpa);
	ASSERT_EQ(PAGE_SIZE, run->memory_fault.size);

	ASSERT_EQ(EHWPOISON, try_private(self->fd, 10, 1, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EHWPOISON, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);

	/* Other pages that are in use don't matter, before and behind it. */
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 8)));
	ASSERT_EQ(EHWPOISON, try_private(self->fd, 4, 10, &error_page));
	ASSERT_EQ(10, error_page);
	unsplice_page(pipe_fds, buf);
	if (gup_fd >= 0) {
		ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(self->mem, 8), PAGE_SIZE));
		ASSERT_EQ(EHWPOISON, try_private(self->fd, 4, 10, &error_page));
		ASSERT_EQ(10, error_page);
		gup_test_unpin(gup_fd);

		ASSERT_EQ(0, gup_test_pin(gup_fd, page_hva(self->mem, 12), PAGE_SIZE));
		ASSERT_EQ(EHWPOISON, try_private(self->fd, 4, 10, &error_page));
		ASSERT_EQ(10, error_page);
		gup_test_unpin(gup_fd);
		kvm_close(gup_fd);
	}

	/* The first poisoned page counts. */
	ASSERT_EQ(0, poison_page(page_hva(self->mem, 30)));
	ASSERT_EQ(EHWPOISON, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(10, error_page);
	ASSERT_EQ(EHWPOISON, try_private(self->fd, 11, NR_PAGES - 11, &error_page));
	ASSERT_EQ(30, error_page);
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      30 * PAGE_SIZE, PAGE_SIZE);
	kvm_madvise(page_hva(self->mem, 30), PAGE_SIZE, MADV_DONTNEED);
	host_fill(self->mem, 30, 1, 1);

	/* Nothing was converted by all that, and the page harms only itself. */
	host_check(self->mem, 0, 10, 1);
	host_check(self->mem, 11, NR_PAGES - 11, 1);
	to_private(self->fd, 0, 10);
	to_private(self->fd, 11, NR_PAGES - 11);
	to_shared(self->fd, 0, NR_PAGES);

	/* Once the page is punched out, the range can be converted. */
	kvm_fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      10 * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(0, try_private(self->fd, 0, NR_PAGES, &error_page));
	ASSERT_EQ(0, guest_read(self->vcpu, page_gpa(10)));
	guest_check(self->vcpu, 9, 1, 1);
	guest_check(self->vcpu, 11, 1, 1);

	/* The poison is also in the page table, as with any file. */
	kvm_madvise(page_hva(self->mem, 10), PAGE_SIZE, MADV_DONTNEED);
	check_state(self->mem, ALL_PAGES);
	to_shared(self->fd, 10, 1);
	ASSERT_EQ(0, host_read(self->mem, 10));
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
