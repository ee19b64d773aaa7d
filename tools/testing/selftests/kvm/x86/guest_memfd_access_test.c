// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that no process of the host can access a page of a guest_memfd while the
 * page is private, by whatever system call or instruction; and that the same
 * accesses work while the page is shared.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/falloc.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>

#include <io_uring/mini_liburing.h>

#include "kvm_test_harness.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#include "../../../../../drivers/iommu/iommufd/iommufd_test.h"

/* The page that is private or shared; its neighbors are always shared. */
#define PAGE		10

/* The contents of a buffer to which nothing was read. */
#define NOTHING		0x6e6f7468696e6721ul

/* What an access returns if the kernel doesn't support it. */
#define MISSING		(-1)

static void fill_buf(u64 *buf, u64 val)
{
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++)
		buf[i] = val;
}

static bool buf_is(u64 *buf, u64 val)
{
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++)
		if (buf[i] != val)
			return false;

	return true;
}

/*
 * The ways to access the page.  They copy all of it to or from a page-aligned
 * buffer, and return an errno.  One that goes through something else, e.g. a file,
 * also looks there if the access is refused: nothing may have been written to it.
 */

/* Returns an errno unless all of the page was copied. */
static int result(ssize_t r)
{
	if (r < 0)
		return errno;

	TEST_ASSERT_EQ(r, PAGE_SIZE);
	return 0;
}

/* By loads and stores.  SIGBUS is an errno, too. */
static int copy_page(void *dst, const void *src)
{
	struct sigaction sa_old, sa = {
		.sa_handler = expect_sigbus_handler,
	};
	int r = 0;

	sigaction(SIGBUS, &sa, &sa_old);
	if (!sigsetjmp(expect_sigbus_jmpbuf, 1))
		memcpy(dst, src, PAGE_SIZE);
	else
		r = EFAULT;
	sigaction(SIGBUS, &sa_old, NULL);

	return r;
}

static int mapping_read(int fd, void *page, void *buf)
{
	return copy_page(buf, page);
}

static int mapping_write(int fd, void *page, void *buf)
{
	return copy_page(page, buf);
}

static void *map_page(int fd)
{
	return __kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  fd, PAGE * PAGE_SIZE);
}

static int new_mapping_read(int fd, void *page, void *buf)
{
	void *mem = map_page(fd);
	int r = copy_page(buf, mem);

	kvm_munmap(mem, PAGE_SIZE);
	return r;
}

static int new_mapping_write(int fd, void *page, void *buf)
{
	void *mem = map_page(fd);
	int r = copy_page(mem, buf);

	kvm_munmap(mem, PAGE_SIZE);
	return r;
}

/* Duplicate the mapping, which an old size of 0 does, and move it. */
static void *remap_page(void *page)
{
	void *mem, *hole;

	mem = mremap(page, 0, PAGE_SIZE, MREMAP_MAYMOVE);
	TEST_ASSERT(mem != MAP_FAILED, __KVM_SYSCALL_ERROR("mremap()", -1));

	hole = kvm_mmap(PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	mem = mremap(mem, PAGE_SIZE, PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, hole);
	TEST_ASSERT(mem == hole, __KVM_SYSCALL_ERROR("mremap()", -1));

	return mem;
}

static int mremap_read(int fd, void *page, void *buf)
{
	void *mem = remap_page(page);
	int r = copy_page(buf, mem);

	kvm_munmap(mem, PAGE_SIZE);
	return r;
}

static int mremap_write(int fd, void *page, void *buf)
{
	void *mem = remap_page(page);
	int r = copy_page(mem, buf);

	kvm_munmap(mem, PAGE_SIZE);
	return r;
}

static int populate_read(int fd, void *page, void *buf)
{
	return madvise(page, PAGE_SIZE, MADV_POPULATE_READ) ? errno : copy_page(buf, page);
}

static int populate_write(int fd, void *page, void *buf)
{
	return madvise(page, PAGE_SIZE, MADV_POPULATE_WRITE) ? errno : copy_page(page, buf);
}

/* The page stays locked, which must not keep it from being made private. */
static int mlock_read(int fd, void *page, void *buf)
{
	return mlock(page, PAGE_SIZE) ? errno : copy_page(buf, page);
}

static int mlock_write(int fd, void *page, void *buf)
{
	return mlock(page, PAGE_SIZE) ? errno : copy_page(page, buf);
}

static void pipe_open(int pipe_fds[2])
{
	TEST_ASSERT(!pipe2(pipe_fds, O_NONBLOCK), __KVM_SYSCALL_ERROR("pipe2()", -1));
}

static void pipe_put(int pipe_fds[2], void *buf)
{
	TEST_ASSERT_EQ(write(pipe_fds[1], buf, PAGE_SIZE), PAGE_SIZE);
}

/* Read what is in the pipe, if anything is. */
static void pipe_get(int pipe_fds[2], void *buf)
{
	TEST_ASSERT(read(pipe_fds[0], buf, PAGE_SIZE) >= 0 || errno == EAGAIN,
		    __KVM_SYSCALL_ERROR("read()", -1));
}

static void pipe_close(int pipe_fds[2])
{
	kvm_close(pipe_fds[0]);
	kvm_close(pipe_fds[1]);
}

static int pipe_read(int fd, void *page, void *buf)
{
	int pipe_fds[2], r;

	pipe_open(pipe_fds);
	r = result(write(pipe_fds[1], page, PAGE_SIZE));
	pipe_get(pipe_fds, buf);
	pipe_close(pipe_fds);

	return r;
}

static int pipe_write(int fd, void *page, void *buf)
{
	int pipe_fds[2], r;

	pipe_open(pipe_fds);
	pipe_put(pipe_fds, buf);
	r = result(read(pipe_fds[0], page, PAGE_SIZE));
	pipe_close(pipe_fds);

	return r;
}

static int vmsplice_read(int fd, void *page, void *buf)
{
	struct iovec iov = { page, PAGE_SIZE };
	int pipe_fds[2], r;

	pipe_open(pipe_fds);
	r = result(vmsplice(pipe_fds[1], &iov, 1, 0));
	pipe_get(pipe_fds, buf);
	pipe_close(pipe_fds);

	return r;
}

static int vmsplice_write(int fd, void *page, void *buf)
{
	struct iovec iov = { page, PAGE_SIZE };
	int pipe_fds[2], r;

	pipe_open(pipe_fds);
	pipe_put(pipe_fds, buf);
	r = result(vmsplice(pipe_fds[0], &iov, 1, 0));
	pipe_close(pipe_fds);

	return r;
}

static int memfd_open(void)
{
	int file = memfd_create("access_test", 0);

	TEST_ASSERT(file >= 0, __KVM_SYSCALL_ERROR("memfd_create()", file));
	return file;
}

/* The page itself goes through the pipe, and its data from there to the file. */
static int splice_read(int fd, void *page, void *buf)
{
	struct iovec iov = { page, PAGE_SIZE };
	int pipe_fds[2], file, r;

	file = memfd_open();
	TEST_ASSERT_EQ(pwrite(file, buf, PAGE_SIZE, 0), PAGE_SIZE);
	pipe_open(pipe_fds);
	r = result(vmsplice(pipe_fds[1], &iov, 1, 0));
	if (!r)
		r = result(splice(pipe_fds[0], NULL, file, NULL, PAGE_SIZE, 0));
	TEST_ASSERT_EQ(pread(file, buf, PAGE_SIZE, 0), PAGE_SIZE);
	pipe_close(pipe_fds);
	kvm_close(file);

	return r;
}

/* The other way round, what goes through the pipe is the file's page. */
static int splice_write(int fd, void *page, void *buf)
{
	int pipe_fds[2], file, r;

	file = memfd_open();
	TEST_ASSERT_EQ(pwrite(file, buf, PAGE_SIZE, 0), PAGE_SIZE);
	pipe_open(pipe_fds);
	TEST_ASSERT_EQ(splice(file, &(loff_t){0}, pipe_fds[1], NULL, PAGE_SIZE, 0), PAGE_SIZE);
	r = result(read(pipe_fds[0], page, PAGE_SIZE));
	pipe_close(pipe_fds);
	kvm_close(file);

	return r;
}

static int file_read(int file, void *page, void *buf)
{
	int r;

	if (file < 0)
		return MISSING;

	TEST_ASSERT_EQ(pwrite(file, buf, PAGE_SIZE, 0), PAGE_SIZE);
	r = result(pwrite(file, page, PAGE_SIZE, 0));
	TEST_ASSERT_EQ(pread(file, buf, PAGE_SIZE, 0), PAGE_SIZE);
	kvm_close(file);

	return r;
}

static int file_write(int file, void *page, void *buf)
{
	int r;

	if (file < 0)
		return MISSING;

	TEST_ASSERT_EQ(pwrite(file, buf, PAGE_SIZE, 0), PAGE_SIZE);
	r = result(pread(file, page, PAGE_SIZE, 0));
	kvm_close(file);

	return r;
}

static int page_cache_read(int fd, void *page, void *buf)
{
	return file_read(memfd_open(), page, buf);
}

static int page_cache_write(int fd, void *page, void *buf)
{
	return file_write(memfd_open(), page, buf);
}

#define RAM_DISK	"/dev/ram0"

static int direct_read(int fd, void *page, void *buf)
{
	return file_read(open(RAM_DISK, O_RDWR | O_DIRECT), page, buf);
}

static int direct_write(int fd, void *page, void *buf)
{
	return file_write(open(RAM_DISK, O_RDWR | O_DIRECT), page, buf);
}

static int process_vm(bool write, void *page, void *buf)
{
	struct iovec local = { buf, PAGE_SIZE }, remote = { page, PAGE_SIZE };

	if (process_vm_readv(getpid(), &local, 1, &local, 1, 0) < 0)
		return MISSING;

	if (write)
		return result(process_vm_writev(getpid(), &local, 1, &remote, 1, 0));

	return result(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
}

static int process_vm_read(int fd, void *page, void *buf)
{
	return process_vm(false, page, buf);
}

static int process_vm_write(int fd, void *page, void *buf)
{
	return process_vm(true, page, buf);
}

static int proc_mem_read(int fd, void *page, void *buf)
{
	int mem_fd = open("/proc/self/mem", O_RDWR);
	int r = result(pread(mem_fd, buf, PAGE_SIZE, (off_t)page));

	kvm_close(mem_fd);
	return r;
}

static int proc_mem_write(int fd, void *page, void *buf)
{
	int mem_fd = open("/proc/self/mem", O_RDWR);
	int r = result(pwrite(mem_fd, buf, PAGE_SIZE, (off_t)page));

	kvm_close(mem_fd);
	return r;
}

/* A stopped child, which has the mapping of its parent. */
static pid_t tracee_start(void)
{
	pid_t pid = fork();
	int status;

	TEST_ASSERT(pid >= 0, __KVM_SYSCALL_ERROR("fork()", pid));
	if (!pid) {
		ptrace(PTRACE_TRACEME);
		raise(SIGSTOP);
		_exit(0);
	}

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFSTOPPED(status), "The tracee didn't stop, status 0x%x", status);
	return pid;
}

static void tracee_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	TEST_ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

static int ptrace_read(int fd, void *page, void *buf)
{
	pid_t pid = tracee_start();
	long val;
	int i;

	for (i = 0; i < WORDS_PER_PAGE; i++) {
		errno = 0;
		val = ptrace(PTRACE_PEEKDATA, pid, (u64 *)page + i, NULL);
		if (errno)
			break;
		((u64 *)buf)[i] = val;
	}

	tracee_kill(pid);
	return i < WORDS_PER_PAGE ? errno : 0;
}

static int ptrace_write(int fd, void *page, void *buf)
{
	pid_t pid = tracee_start();
	int i, r = 0;

	for (i = 0; i < WORDS_PER_PAGE && !r; i++)
		r = ptrace(PTRACE_POKEDATA, pid, (u64 *)page + i, ((u64 *)buf)[i]) ? errno : 0;

	tracee_kill(pid);
	return r;
}

/* A pipe is read and written at once, i.e. by the task that submits. */
static int io_uring_rw(int op, int pipe_fd, void *page)
{
	const bool fixed = op == IORING_OP_READ_FIXED || op == IORING_OP_WRITE_FIXED;
	struct iovec iov = { page, PAGE_SIZE };
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe;
	struct io_uring ring;
	int r;

	if (io_uring_queue_init(1, &ring, 0))
		return MISSING;

	if (fixed) {
		r = -io_uring_register_buffers(&ring, &iov, 1);
		if (r)
			goto out;
	}

	sqe = io_uring_get_sqe(&ring);
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = op;
	sqe->fd = pipe_fd;
	sqe->addr = (u64)page;
	sqe->len = PAGE_SIZE;

	TEST_ASSERT_EQ(io_uring_submit(&ring), 1);
	TEST_ASSERT_EQ(io_uring_wait_cqe(&ring, &cqe), 0);
	r = cqe->res < 0 ? -cqe->res : 0;
	TEST_ASSERT(r || cqe->res == PAGE_SIZE, "Got %d bytes", cqe->res);
	io_uring_cqe_seen(&ring);

	/* Closing the ring does it, too, but later. */
	if (fixed)
		TEST_ASSERT_EQ(syscall(__NR_io_uring_register, ring.ring_fd,
				       IORING_UNREGISTER_BUFFERS, NULL, 0), 0);
out:
	io_uring_queue_exit(&ring);
	return r;
}

static int __io_uring_read(int op, void *page, void *buf)
{
	int pipe_fds[2], r;

	pipe_open(pipe_fds);
	r = io_uring_rw(op, pipe_fds[1], page);
	pipe_get(pipe_fds, buf);
	pipe_close(pipe_fds);

	return r;
}

static int __io_uring_write(int op, void *page, void *buf)
{
	int pipe_fds[2], r;

	pipe_open(pipe_fds);
	pipe_put(pipe_fds, buf);
	r = io_uring_rw(op, pipe_fds[0], page);
	pipe_close(pipe_fds);

	return r;
}

static int io_uring_read(int fd, void *page, void *buf)
{
	return __io_uring_read(IORING_OP_WRITE, page, buf);
}

static int io_uring_write(int fd, void *page, void *buf)
{
	return __io_uring_write(IORING_OP_READ, page, buf);
}

static int io_uring_fixed_read(int fd, void *page, void *buf)
{
	return __io_uring_read(IORING_OP_WRITE_FIXED, page, buf);
}

static int io_uring_fixed_write(int fd, void *page, void *buf)
{
	return __io_uring_write(IORING_OP_READ_FIXED, page, buf);
}

static int iommufd_test(int iommufd, struct iommu_test_cmd *cmd)
{
	cmd->size = sizeof(*cmd);
	return ioctl(iommufd, IOMMU_TEST_CMD, cmd) ? errno : 0;
}

/*
 * Access the page as a device does.  If the device has an IOMMU domain, all pages are
 * pinned as soon as they are mapped for it, otherwise when they are used.
 */
static int iommufd_rw(bool domain, u32 flags, void *page, void *buf)
{
	struct iommu_ioas_alloc alloc = {
		.size = sizeof(alloc),
	};
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE,
		.user_va = (u64)page,
		.length = PAGE_SIZE,
	};
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap),
	};
	struct iommu_test_cmd device = {
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
	};
	struct iommu_test_cmd access = {
		.op = IOMMU_TEST_OP_CREATE_ACCESS,
	};
	struct iommu_test_cmd rw = {
		.op = IOMMU_TEST_OP_ACCESS_RW,
		.access_rw.length = PAGE_SIZE,
		.access_rw.uptr = (u64)buf,
		.access_rw.flags = flags,
	};
	int iommufd, r;

	iommufd = open("/dev/iommu", O_RDWR);
	if (iommufd < 0)
		return MISSING;

	TEST_ASSERT(!ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc),
		    __KVM_SYSCALL_ERROR("IOMMU_IOAS_ALLOC", -1));

	map.ioas_id = alloc.out_ioas_id;
	unmap.ioas_id = alloc.out_ioas_id;
	device.id = alloc.out_ioas_id;
	access.id = alloc.out_ioas_id;

	r = iommufd_test(iommufd, &access);
	if (r == ENOTTY) {
		kvm_close(iommufd);
		return MISSING;
	}
	TEST_ASSERT_EQ(r, 0);

	if (domain)
		TEST_ASSERT_EQ(iommufd_test(iommufd, &device), 0);

	r = ioctl(iommufd, IOMMU_IOAS_MAP, &map) ? errno : 0;
	TEST_ASSERT(!r || domain, "Mapping the page failed without a domain, errno %d", r);
	if (!r) {
		rw.id = access.create_access.out_access_fd;
		rw.access_rw.iova = map.iova;
		r = iommufd_test(iommufd, &rw);

		unmap.iova = map.iova;
		unmap.length = PAGE_SIZE;
		TEST_ASSERT(!ioctl(iommufd, IOMMU_IOAS_UNMAP, &unmap),
			    __KVM_SYSCALL_ERROR("IOMMU_IOAS_UNMAP", -1));
	}

	kvm_close(access.create_access.out_access_fd);
	kvm_close(iommufd);
	return r;
}

static int dma_read(int fd, void *page, void *buf)
{
	return iommufd_rw(true, 0, page, buf);
}

static int dma_write(int fd, void *page, void *buf)
{
	return iommufd_rw(true, MOCK_ACCESS_RW_WRITE, page, buf);
}

static int mdev_read(int fd, void *page, void *buf)
{
	return iommufd_rw(false, MOCK_ACCESS_RW_SLOW_PATH, page, buf);
}

static int mdev_write(int fd, void *page, void *buf)
{
	return iommufd_rw(false, MOCK_ACCESS_RW_SLOW_PATH | MOCK_ACCESS_RW_WRITE, page, buf);
}

/* Pin the page; what is pinned is read through the kernel's own mapping. */
static int gup_read(int fd, void *page, void *buf)
{
	int gup_fd = gup_test_open();
	int r;

	if (gup_fd < 0)
		return MISSING;

	r = gup_test_pin(gup_fd, page, PAGE_SIZE);
	if (!r) {
		gup_test_read(gup_fd, buf);
		gup_test_unpin(gup_fd);
	}
	kvm_close(gup_fd);

	return r;
}

static int uffd_open(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
	};
	int uffd;

	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd >= 0)
		TEST_ASSERT(!ioctl(uffd, UFFDIO_API, &api),
			    __KVM_SYSCALL_ERROR("UFFDIO_API", -1));
	return uffd;
}

static int uffd_register(int uffd, void *mem, u64 mode)
{
	struct uffdio_register reg = {
		.range = { (u64)mem, PAGE_SIZE },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? errno : 0;
}

static int uffd_copy(int uffd, void *dst, void *src)
{
	struct uffdio_copy copy = {
		.dst = (u64)dst,
		.src = (u64)src,
		.len = PAGE_SIZE,
	};

	return ioctl(uffd, UFFDIO_COPY, &copy) ? errno : 0;
}

/* Fill another page with this one by userfaultfd. */
static int uffd_read(int fd, void *page, void *buf)
{
	int uffd = uffd_open();
	void *mem;
	int r;

	if (uffd < 0)
		return MISSING;

	mem = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	TEST_ASSERT_EQ(uffd_register(uffd, mem, UFFDIO_REGISTER_MODE_MISSING), 0);
	r = uffd_copy(uffd, mem, page);
	if (!r)
		memcpy(buf, mem, PAGE_SIZE);
	kvm_munmap(mem, PAGE_SIZE);
	kvm_close(uffd);

	return r;
}

/*
 * Who accesses the page: the VMM, a child that inherited its mapping, and a process
 * that is older than the VM and was sent the fd.
 */
enum {
	VMM,
	CHILD,
	RECEIVER,
	NR_ACTORS,
};

struct actor {
	const char *name;
	pid_t pid;
	int sock;
};

/* What the VMM has the others do. */
enum order {
	ORDER_READ,
	ORDER_WRITE,
	ORDER_CONVERT,
};

struct way {
	int (*read)(int fd, void *page, void *buf);
	/* NULL if the page can only be read this way. */
	int (*write)(int fd, void *page, void *buf);
	/* The errno of both if the page is private. */
	int err;
	const char *needs;
};

/* All actors share the buffer. */
struct scene {
	const struct way *way;
	struct gmem_vm gmem;
	struct actor actors[NR_ACTORS];
	void *buf;
};

static int convert(int fd)
{
	struct kvm_memory_attributes2 attr = {
		.offset = PAGE * PAGE_SIZE,
		.size = PAGE_SIZE,
	};

	return set_attributes(fd, &attr);
}

static int obey(struct scene *s, enum order what, int fd, void *page)
{
	switch (what) {
	case ORDER_READ:
		return s->way->read(fd, page, s->buf);
	case ORDER_WRITE:
		return s->way->write(fd, page, s->buf);
	case ORDER_CONVERT:
	default:
		return convert(fd);
	}
}

static void actor_main(struct scene *s, int sock, int fd, void *page)
{
	enum order what;
	int r;

	if (fd < 0) {
		fd = receive_fd(sock);
		if (fd < 0)
			return;
		page = map_page(fd);
	}

	while (read(sock, &what, sizeof(what)) == sizeof(what)) {
		r = obey(s, what, fd, page);
		TEST_ASSERT_EQ(write(sock, &r, sizeof(r)), sizeof(r));
	}
}

/* With an @fd of -1, the actor waits for one. */
static void actor_start(struct scene *s, struct actor *actor, int fd, void *page)
{
	int socks[2];

	TEST_ASSERT(!socketpair(AF_UNIX, SOCK_STREAM, 0, socks),
		    __KVM_SYSCALL_ERROR("socketpair()", -1));
	actor->pid = fork();
	TEST_ASSERT(actor->pid >= 0, __KVM_SYSCALL_ERROR("fork()", actor->pid));
	if (!actor->pid) {
		kvm_close(socks[0]);
		actor_main(s, socks[1], fd, page);
		_exit(0);
	}

	kvm_close(socks[1]);
	actor->sock = socks[0];
}

static void actor_stop(struct actor *actor)
{
	int status;

	kvm_close(actor->sock);
	TEST_ASSERT_EQ(waitpid(actor->pid, &status, 0), actor->pid);
	TEST_ASSERT(!status, "The %s died, status 0x%x", actor->name, status);
}

/* Returns the errno. */
static int order(struct scene *s, int actor, enum order what)
{
	int sock = s->actors[actor].sock, r;

	if (actor == VMM)
		return obey(s, what, s->gmem.fd, page_hva(s->gmem.mem, PAGE));

	TEST_ASSERT_EQ(write(sock, &what, sizeof(what)), sizeof(what));
	TEST_ASSERT(read(sock, &r, sizeof(r)) == sizeof(r), "The %s died",
		    s->actors[actor].name);
	return r;
}

/* Have each actor read what is there, and write what the next one reads. */
static void check_shared(struct scene *s, int generation)
{
	int i, r;

	for (i = 0; i < NR_ACTORS; i++, generation++) {
		const char *name = s->actors[i].name;

		fill_buf(s->buf, NOTHING);
		r = order(s, i, ORDER_READ);
		TEST_ASSERT(!r, "The %s can't read shared memory, errno %d", name, r);
		TEST_ASSERT(buf_is(s->buf, page_val(PAGE, generation)),
			    "The %s read something else than the shared memory", name);

		if (s->way->write) {
			fill_buf(s->buf, page_val(PAGE, generation + 1));
			r = order(s, i, ORDER_WRITE);
			TEST_ASSERT(!r, "The %s can't write shared memory, errno %d", name, r);
		} else {
			host_fill(s->gmem.mem, PAGE, 1, generation + 1);
		}
		host_check(s->gmem.mem, PAGE, 1, generation + 1);
		guest_check(s->gmem.vcpu, PAGE, 1, generation + 1);
	}
}

static void check_private(struct scene *s, int generation)
{
	int i, r;

	for (i = 0; i < NR_ACTORS; i++) {
		const char *name = s->actors[i].name;

		fill_buf(s->buf, NOTHING);
		r = order(s, i, ORDER_READ);
		TEST_ASSERT(buf_is(s->buf, NOTHING),
			    "The %s read private memory, errno %d", name, r);
		TEST_ASSERT(r == s->way->err,
			    "The %s got errno %d for reading private memory", name, r);

		if (s->way->write) {
			fill_buf(s->buf, page_val(PAGE, generation + 1));
			r = order(s, i, ORDER_WRITE);
			guest_check(s->gmem.vcpu, PAGE, 1, generation);
			TEST_ASSERT(r == s->way->err,
				    "The %s got errno %d for writing private memory", name, r);
		}

		/* Only the VMM can change that. */
		if (i != VMM)
			TEST_ASSERT_EQ(order(s, i, ORDER_CONVERT), EIO);
	}

	/* Verify that failed attempts have no lasting effect. */
	check_state(s->gmem.mem, BIT_ULL(PAGE));
	guest_check(s->gmem.vcpu, PAGE, 1, generation);
}

FIXTURE(way) {
	struct scene scene;
};

FIXTURE_VARIANT(way) {
	struct way way;
};

FIXTURE_SETUP(way)
{
	struct scene *s = &self->scene;

	s->way = &variant->way;
	s->actors[VMM].name = "VMM";
	s->actors[CHILD].name = "child";
	s->actors[RECEIVER].name = "receiver";

	s->buf = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	actor_start(s, &s->actors[RECEIVER], -1, NULL);

	gmem_vm_create(&s->gmem, GMEM_FLAGS);
	actor_start(s, &s->actors[CHILD], s->gmem.fd, page_hva(s->gmem.mem, PAGE));
	send_fd(s->actors[RECEIVER].sock, s->gmem.fd);
}

FIXTURE_TEARDOWN(way)
{
	struct scene *s = &self->scene;

	/* In this order, as the child has a copy of the receiver's socket. */
	actor_stop(&s->actors[CHILD]);
	actor_stop(&s->actors[RECEIVER]);
	gmem_vm_free(&s->gmem);
	kvm_munmap(s->buf, PAGE_SIZE);
}

FIXTURE_VARIANT_ADD(way, mapping) {
	.way = { mapping_read, mapping_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, new_mapping) {
	.way = { new_mapping_read, new_mapping_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, mremap) {
	.way = { mremap_read, mremap_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, populate) {
	.way = { populate_read, populate_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, mlock) {
	.way = { mlock_read, mlock_write, ENOMEM },
};

FIXTURE_VARIANT_ADD(way, pipe) {
	.way = { pipe_read, pipe_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, page_cache) {
	.way = { page_cache_read, page_cache_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, direct) {
	.way = { direct_read, direct_write, EFAULT, "CONFIG_BLK_DEV_RAM" },
};

FIXTURE_VARIANT_ADD(way, vmsplice) {
	.way = { vmsplice_read, vmsplice_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, splice) {
	.way = { splice_read, splice_write, EFAULT },
};

FIXTURE_VARIANT_ADD(way, process_vm) {
	.way = { process_vm_read, process_vm_write, EFAULT, "CONFIG_CROSS_MEMORY_ATTACH" },
};

FIXTURE_VARIANT_ADD(way, proc_mem) {
	.way = { proc_mem_read, proc_mem_write, EIO },
};

FIXTURE_VARIANT_ADD(way, ptrace) {
	.way = { ptrace_read, ptrace_write, EIO },
};

FIXTURE_VARIANT_ADD(way, io_uring) {
	.way = { io_uring_read, io_uring_write, EFAULT, "CONFIG_IO_URING" },
};

FIXTURE_VARIANT_ADD(way, io_uring_fixed) {
	.way = { io_uring_fixed_read, io_uring_fixed_write, EFAULT, "CONFIG_IO_URING" },
};

FIXTURE_VARIANT_ADD(way, dma) {
	.way = { dma_read, dma_write, EFAULT, "CONFIG_IOMMUFD_TEST" },
};

FIXTURE_VARIANT_ADD(way, mdev) {
	.way = { mdev_read, mdev_write, EFAULT, "CONFIG_IOMMUFD_TEST" },
};

FIXTURE_VARIANT_ADD(way, gup) {
	.way = { gup_read, NULL, EFAULT, "CONFIG_GUP_TEST" },
};

FIXTURE_VARIANT_ADD(way, uffd) {
	.way = { uffd_read, NULL, EFAULT, "CONFIG_USERFAULTFD" },
};

/* C9, C4: Have each actor access the page, once shared and once private. */
TEST_F(way, access)
{
	struct scene *s = &self->scene;

	if (order(s, VMM, ORDER_READ) == MISSING)
		SKIP(return, "Needs %s", s->way->needs);

	host_fill(s->gmem.mem, PAGE - 1, 3, 1);
	check_shared(s, 1);

	/* Give the page contents that were never shared. */
	to_private(s->gmem.fd, PAGE, 1);
	guest_fill(s->gmem.vcpu, PAGE, 1, 11);
	check_private(s, 11);

	to_shared(s->gmem.fd, PAGE, 1);
	check_shared(s, 11);

	host_check(s->gmem.mem, PAGE - 1, 1, 1);
	host_check(s->gmem.mem, PAGE + 1, 1, 1);
}

FIXTURE(page) {
	struct gmem_vm gmem;
	u8 *page;
};

FIXTURE_SETUP(page)
{
	gmem_vm_create(&self->gmem, GMEM_FLAGS);
	self->page = page_hva(self->gmem.mem, PAGE);
	host_fill(self->gmem.mem, 0, NR_PAGES, 1);
}

FIXTURE_TEARDOWN(page)
{
	gmem_vm_free(&self->gmem);
}

/* Verify that the page is still private, and that all pages have their contents. */
static void check_untouched(struct gmem_vm *gmem)
{
	check_state(gmem->mem, BIT_ULL(PAGE));
	guest_check(gmem->vcpu, 0, NR_PAGES, 1);
}

static void make_shared_again(struct gmem_vm *gmem)
{
	to_shared(gmem->fd, PAGE, 1);
	check_state(gmem->mem, 0);
	host_check(gmem->mem, 0, NR_PAGES, 1);
	host_fill(gmem->mem, PAGE, 1, 2);
	guest_check(gmem->vcpu, PAGE, 1, 2);
}

/* C9: Access a range that ends in the page, and verify that it stops in front of it. */
TEST_F(page, border)
{
	u8 *mem = self->page - PAGE_SIZE;
	struct iovec remote = { mem, 2 * PAGE_SIZE };
	struct iovec local = { NULL, 2 * PAGE_SIZE };
	u64 *buf;
	int fd;

	buf = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	local.iov_base = buf;

#define CHECK_BORDER(access)								\
do {											\
	fill_buf(buf, NOTHING);								\
	fill_buf(buf + WORDS_PER_PAGE, NOTHING);					\
	ASSERT_EQ(PAGE_SIZE, access);							\
	ASSERT_TRUE(buf_is(buf, page_val(PAGE - 1, 1)));				\
	ASSERT_TRUE(buf_is(buf + WORDS_PER_PAGE, NOTHING));				\
} while (0)

	to_private(self->gmem.fd, PAGE, 1);

	fd = open("/proc/self/mem", O_RDWR);
	CHECK_BORDER(pread(fd, buf, 2 * PAGE_SIZE, (off_t)mem));
	ASSERT_EQ(PAGE_SIZE, pwrite(fd, buf, 2 * PAGE_SIZE, (off_t)mem));
	kvm_close(fd);

	fd = memfd_open();
	ASSERT_EQ(PAGE_SIZE, pwrite(fd, mem, 2 * PAGE_SIZE, 0));
	CHECK_BORDER(pread(fd, buf, 2 * PAGE_SIZE, 0));
	ASSERT_EQ(PAGE_SIZE, pwrite(fd, buf + WORDS_PER_PAGE, PAGE_SIZE, PAGE_SIZE));
	ASSERT_EQ(PAGE_SIZE, pread(fd, mem, 2 * PAGE_SIZE, 0));
	kvm_close(fd);

	if (process_vm_readv(getpid(), &local, 1, &local, 1, 0) > 0) {
		CHECK_BORDER(process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
		ASSERT_EQ(PAGE_SIZE, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	}

	kvm_munmap(buf, 2 * PAGE_SIZE);
	check_untouched(&self->gmem);
}

/* C9: Use the fd for I/O, which it refuses whatever the state. */
TEST_F(page, file)
{
	const int fd = self->gmem.fd;
	char buf[PAGE_SIZE] = {};
	int pipe_fds[2], file;
	char path[64];
	int i;

	/* Have data in the page and in the buffer. */
	file = memfd_open();
	ASSERT_EQ(PAGE_SIZE, pwrite(file, buf, PAGE_SIZE, 0));
	pipe_open(pipe_fds);
	pipe_put(pipe_fds, buf);

	for (i = 0; i < 2; i++) {
		loff_t in = PAGE * PAGE_SIZE, out = 0;

#define CHECK_REFUSED(err, call)		\
do {						\
	ASSERT_EQ(-1, call);			\
	ASSERT_EQ(err, errno);			\
} while (0)

		CHECK_REFUSED(EINVAL, read(fd, buf, PAGE_SIZE));
		CHECK_REFUSED(EINVAL, write(fd, buf, PAGE_SIZE));
		CHECK_REFUSED(ESPIPE, pread(fd, buf, PAGE_SIZE, in));
		CHECK_REFUSED(ESPIPE, pwrite(fd, buf, PAGE_SIZE, in));
		CHECK_REFUSED(ESPIPE, sendfile(file, fd, &in, PAGE_SIZE));
		CHECK_REFUSED(EINVAL, sendfile(fd, file, &out, PAGE_SIZE));
		CHECK_REFUSED(EINVAL, splice(fd, &in, pipe_fds[1], NULL, PAGE_SIZE, 0));
		CHECK_REFUSED(EINVAL, splice(pipe_fds[0], NULL, fd, &in, PAGE_SIZE, 0));
		CHECK_REFUSED(EXDEV, copy_file_range(fd, &in, file, &out, PAGE_SIZE, 0));
		CHECK_REFUSED(EXDEV, copy_file_range(file, &out, fd, &in, PAGE_SIZE, 0));
		CHECK_REFUSED(EINVAL, ftruncate(fd, 0));

		/* Nor can it be opened again, or be mapped other than shared. */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		CHECK_REFUSED(ENXIO, open(path, O_RDWR));
		ASSERT_EQ(MAP_FAILED, mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE, fd, in));
		ASSERT_EQ(EINVAL, errno);

		if (!i)
			to_private(fd, PAGE, 1);
	}

	check_untouched(&self->gmem);
	pipe_close(pipe_fds);
	kvm_close(file);
}

/* C9: Use a word of the page as a futex, which the kernel would read and change. */
TEST_F(page, futex)
{
	u32 *uaddr = (u32 *)self->page, other = 0;
	const u32 val = *uaddr;
	struct timespec now = {};

	/* Waits if the value is the expected one, i.e. it has been read. */
#define futex(op, uaddr, val, ...) syscall(__NR_futex, uaddr, op, val, ##__VA_ARGS__)
	CHECK_REFUSED(EAGAIN, futex(FUTEX_WAIT, uaddr, val + 1, &now));
	CHECK_REFUSED(ETIMEDOUT, futex(FUTEX_WAIT, uaddr, val, &now));
	ASSERT_EQ(0, futex(FUTEX_WAKE_OP, &other, 1, 1, uaddr,
			   FUTEX_OP(FUTEX_OP_XOR, 1, FUTEX_OP_CMP_EQ, 0)));
	ASSERT_EQ(val ^ 1, *uaddr);
	*uaddr = val;

	to_private(self->gmem.fd, PAGE, 1);
	CHECK_REFUSED(EFAULT, futex(FUTEX_WAIT, uaddr, val + 1, &now));
	CHECK_REFUSED(EFAULT, futex(FUTEX_WAIT, uaddr, val, &now));
	CHECK_REFUSED(EFAULT, futex(FUTEX_WAKE, uaddr, 1));
	CHECK_REFUSED(EFAULT, futex(FUTEX_WAKE_OP, &other, 1, 1, uaddr,
				    FUTEX_OP(FUTEX_OP_XOR, 1, FUTEX_OP_CMP_EQ, 0)));
	check_untouched(&self->gmem);
	make_shared_again(&self->gmem);
}

/* C9: Call mincore(), which says whether the page exists and nothing else. */
TEST_F(page, mincore)
{
	unsigned char vec;

	ASSERT_EQ(0, mincore(self->page, PAGE_SIZE, &vec));
	ASSERT_EQ(1, vec);

	to_private(self->gmem.fd, PAGE, 1);
	ASSERT_EQ(0, mincore(self->page, PAGE_SIZE, &vec));
	ASSERT_EQ(1, vec);
	check_untouched(&self->gmem);

	kvm_fallocate(self->gmem.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      PAGE * PAGE_SIZE, PAGE_SIZE);
	ASSERT_EQ(0, mincore(self->page, PAGE_SIZE, &vec));
	ASSERT_EQ(0, vec);
	check_state(self->gmem.mem, BIT_ULL(PAGE));
	ASSERT_EQ(0, mincore(self->page, PAGE_SIZE, &vec));
	ASSERT_EQ(0, vec);
}

/* C9: Call madvise(), and verify that none of it reads, changes or poisons the page. */
TEST_F(page, madvise)
{
	static const struct {
		int advice;
		int err;
	} tests[] = {
		{ MADV_NORMAL, 0 },
		{ MADV_RANDOM, 0 },
		{ MADV_SEQUENTIAL, 0 },
		{ MADV_WILLNEED, 0 },
		{ MADV_DONTNEED, 0 },
		{ MADV_DONTNEED_LOCKED, 0 },
		{ MADV_COLD, 0 },
		{ MADV_PAGEOUT, 0 },
		{ MADV_DONTDUMP, 0 },
		{ MADV_DODUMP, 0 },
		{ MADV_FREE, EINVAL },
		{ MADV_WIPEONFORK, EINVAL },
		{ MADV_POPULATE_READ, EFAULT },
		{ MADV_POPULATE_WRITE, EFAULT },
		{ MADV_COLLAPSE, EINVAL },
		{ MADV_SOFT_OFFLINE, EFAULT },
		{ MADV_HWPOISON, EFAULT },
	};
	int i, r;

	to_private(self->gmem.fd, PAGE, 1);

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		r = madvise(self->page, PAGE_SIZE, tests[i].advice) ? errno : 0;
		ASSERT_EQ(tests[i].err, r) {
			TH_LOG("Advice %d", tests[i].advice);
		}
		check_untouched(&self->gmem);
	}

	make_shared_again(&self->gmem);
}

/* C9, C12: Remove the page with MADV_REMOVE, which punches a hole. */
TEST_F(page, remove)
{
	to_private(self->gmem.fd, PAGE, 1);
	ASSERT_EQ(0, madvise(self->page, PAGE_SIZE, MADV_REMOVE));
	check_state(self->gmem.mem, BIT_ULL(PAGE));
	ASSERT_EQ(0, guest_read(self->gmem.vcpu, page_gpa(PAGE)));
	guest_check(self->gmem.vcpu, PAGE + 1, 1, 1);

	to_shared(self->gmem.fd, PAGE, 1);
	ASSERT_EQ(0, host_read(self->gmem.mem, PAGE));
}

/* C9: Install and remove a guard region, and verify that the page can't be read. */
TEST_F(page, guard)
{
	to_private(self->gmem.fd, PAGE, 1);
	if (madvise(self->page, PAGE_SIZE, MADV_GUARD_INSTALL))
		SKIP(return, "Needs MADV_GUARD_INSTALL for files");
	kvm_madvise(self->page, PAGE_SIZE, MADV_GUARD_REMOVE);
	check_untouched(&self->gmem);

	/* Once the page is shared, no guard may be left on it. */
	kvm_madvise(self->page, PAGE_SIZE, MADV_GUARD_INSTALL);
	to_shared(self->gmem.fd, PAGE, 1);
	kvm_madvise(self->page, PAGE_SIZE, MADV_GUARD_REMOVE);
	make_shared_again(&self->gmem);
}

/* C9: Use userfaultfd on the page, which doesn't fill, move or reveal it. */
TEST_F(page, userfaultfd)
{
	const struct uffdio_range range = { (u64)self->page, PAGE_SIZE };
	struct uffdio_zeropage zero = {
		.range = range,
	};
	struct uffdio_continue cont = {
		.range = range,
	};
	struct uffdio_writeprotect wp = {
		.range = range,
	};
	struct uffdio_move move = {
		.src = range.start,
		.len = PAGE_SIZE,
	};
	u64 *buf, *hole;
	int uffd;

	uffd = uffd_open();
	if (uffd < 0)
		SKIP(return, "Needs CONFIG_USERFAULTFD");

	buf = kvm_mmap(2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	hole = buf + WORDS_PER_PAGE;
	move.dst = (u64)hole;
	fill_buf(buf, NOTHING);
	to_private(self->gmem.fd, PAGE, 1);

	ASSERT_EQ(EINVAL, uffd_register(uffd, self->page, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(EINVAL, uffd_register(uffd, self->page, UFFDIO_REGISTER_MODE_MINOR));
	ASSERT_EQ(EINVAL, uffd_register(uffd, self->page, UFFDIO_REGISTER_MODE_WP));

	/* Verify that it works with other memory. */
	ASSERT_EQ(0, uffd_register(uffd, hole, UFFDIO_REGISTER_MODE_MISSING));
	ASSERT_EQ(0, uffd_copy(uffd, hole, buf));
	ASSERT_TRUE(buf_is(hole, NOTHING));
	kvm_madvise(hole, PAGE_SIZE, MADV_DONTNEED);

	ASSERT_EQ(ENOENT, uffd_copy(uffd, self->page, buf));
	CHECK_REFUSED(ENOENT, ioctl(uffd, UFFDIO_ZEROPAGE, &zero));
	CHECK_REFUSED(ENOENT, ioctl(uffd, UFFDIO_CONTINUE, &cont));
	CHECK_REFUSED(ENOENT, ioctl(uffd, UFFDIO_WRITEPROTECT, &wp));
	CHECK_REFUSED(EINVAL, ioctl(uffd, UFFDIO_MOVE, &move));
	check_untouched(&self->gmem);

	make_shared_again(&self->gmem);
	kvm_munmap(buf, 2 * PAGE_SIZE);
	kvm_close(uffd);
}

#define CORE_PATTERN_PATH	"/proc/sys/kernel/core_pattern"
#define CORE_FILTER_PATH	"/proc/self/coredump_filter"

/* Private and shared anonymous memory, ELF headers, and mapped files. */
#define CORE_FILTER		"0x3b"

static bool write_file(const char *path, const char *val)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;

	ok = write(fd, val, strlen(val)) == strlen(val);
	kvm_close(fd);
	return ok;
}

/* A core dump, as it's in the file. */
struct core {
	void *mem;
	size_t size;
};

static struct core dump_core(void)
{
	const struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char dir[] = "/tmp/access_test.XXXXXX", path[64];
	int fd, r, status = -1;
	char old[256] = {};
	struct core core;
	struct stat st;
	pid_t pid;

	TEST_ASSERT(mkdtemp(dir), __KVM_SYSCALL_ERROR("mkdtemp()", -1));
	fd = open(CORE_PATTERN_PATH, O_RDONLY);
	r = read(fd, old, sizeof(old) - 1);
	TEST_ASSERT(r > 0, "Failed to read " CORE_PATTERN_PATH);
	kvm_close(fd);

	/* The pattern is global: don't fail before the old one is restored. */
	snprintf(path, sizeof(path), "%s/core.%%p", dir);
	r = write_file(CORE_PATTERN_PATH, path);
	pid = fork();
	if (!pid) {
		if (setrlimit(RLIMIT_CORE, &unlimited) ||
		    !write_file(CORE_FILTER_PATH, CORE_FILTER))
			_exit(1);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	waitpid(pid, &status, 0);
	write_file(CORE_PATTERN_PATH, old);

	TEST_ASSERT(r && WIFSIGNALED(status) && WCOREDUMP(status),
		    "The child left no core, status 0x%x", status);

	snprintf(path, sizeof(path), "%s/core.%d", dir, pid);
	fd = open(path, O_RDONLY);
	TEST_ASSERT(fd >= 0 && !fstat(fd, &st), "Failed to open %s", path);
	core.size = st.st_size;
	core.mem = kvm_mmap(core.size, PROT_READ, MAP_PRIVATE, fd);
	kvm_close(fd);
	TEST_ASSERT(!unlink(path) && !rmdir(dir), "Failed to remove %s", path);

	return core;
}

/* Look for several words in a row, as a single one may be a variable. */
static bool core_has(struct core *core, int page, int generation)
{
	u64 piece[8];
	int i;

	for (i = 0; i < ARRAY_SIZE(piece); i++)
		piece[i] = page_val(page, generation);

	return memmem(core->mem, core->size, piece, sizeof(piece));
}

/* C9: Dump the core of a process that has the page mapped, and look for it there. */
TEST_F(page, core_dump)
{
	struct core shared, private, again;

	if (access(CORE_PATTERN_PATH, W_OK) || access(CORE_FILTER_PATH, W_OK))
		SKIP(return, "Needs CONFIG_COREDUMP, CONFIG_ELF_CORE and root");

	shared = dump_core();
	to_private(self->gmem.fd, PAGE, 1);
	guest_fill(self->gmem.vcpu, PAGE, 1, 2);
	private = dump_core();
	guest_check(self->gmem.vcpu, PAGE, 1, 2);
	to_shared(self->gmem.fd, PAGE, 1);
	again = dump_core();

	ASSERT_TRUE(core_has(&shared, PAGE, 1));
	ASSERT_TRUE(core_has(&shared, PAGE + 1, 1));

	ASSERT_FALSE(core_has(&private, PAGE, 1));
	ASSERT_FALSE(core_has(&private, PAGE, 2));
	ASSERT_TRUE(core_has(&private, PAGE + 1, 1));

	ASSERT_TRUE(core_has(&again, PAGE, 2));
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
