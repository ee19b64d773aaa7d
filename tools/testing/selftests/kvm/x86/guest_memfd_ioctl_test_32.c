// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that a 32-bit VMM on a 64-bit kernel has KVM_SET_MEMORY_ATTRIBUTES2, the
 * same as a 64-bit one.  Proves C24.
 *
 * Many machines have no 32-bit libc, hence build this with nolibc, and without the
 * selftests' library, which is 64-bit code, too.  To see whether a page is private,
 * try to populate it: that fails if it is.
 */
#ifndef NOLIBC
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#endif

#include <linux/kvm.h>
#include <linux/mman.h>
#include <linux/uio.h>

#include "../../kselftest.h"

#define PAGE_SIZE	4096ull
#define SZ_4G		(4ull << 30)
#define SZ_1T		(1024ull << 30)

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE
#define GMEM_FLAGS	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)
#define NO_ERROR_OFFSET	0xdeadbeefcafe5a5aull

/* Beyond what 32 bits can say, and with a twin below that they could say instead. */
#define HIGH_OFFSET	(5 * SZ_4G + 16 * PAGE_SIZE)
#define LOW_OFFSET	(16 * PAGE_SIZE)

static int kvm_fd, vm_fd, gmem_fd;

/* Whether the test that is running has failed.  It goes on nevertheless. */
static bool failed;

#define CHECK(condition)	check(condition, #condition, __LINE__)

static void check(bool ok, const char *condition, int line)
{
	if (ok)
		return;

	ksft_print_msg("line %d: %s\n", line, condition);
	failed = true;
}

/* Returns the errno. */
static int set_attributes(int fd, struct kvm_memory_attributes2 *attr)
{
	return ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, attr) ? errno : 0;
}

static int convert(__u64 offset, __u64 size, __u64 attributes)
{
	struct kvm_memory_attributes2 attr = {
		.offset = offset,
		.size = size,
		.attributes = attributes,
	};

	return set_attributes(gmem_fd, &attr);
}

static void *map_page(__u64 offset)
{
	void *mem;

	mem = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, gmem_fd, offset);
	if (mem == MAP_FAILED)
		ksft_exit_fail_msg("mmap() at 0x%llx: %s\n", offset, strerror(errno));
	return mem;
}

static bool is_private(__u64 offset)
{
	void *mem = map_page(offset);
	bool private;

	private = syscall(__NR_madvise, mem, (long)PAGE_SIZE, MADV_POPULATE_READ);
	if (private && errno != EFAULT)
		ksft_exit_fail_msg("madvise() at 0x%llx: %s\n", offset, strerror(errno));
	munmap(mem, PAGE_SIZE);
	return private;
}

static void test_uapi(void)
{
	CHECK(sizeof(long) == 4);
	CHECK(KVM_SET_MEMORY_ATTRIBUTES2 == 0xc080aed2);
	CHECK(sizeof(struct kvm_memory_attributes2) == 128);
	CHECK(offsetof(struct kvm_memory_attributes2, error_offset) == 32);
}

static void test_convert(void)
{
	CHECK(!is_private(LOW_OFFSET));

	CHECK(!convert(LOW_OFFSET, PAGE_SIZE * 2, PRIVATE));
	CHECK(!is_private(LOW_OFFSET - PAGE_SIZE));
	CHECK(is_private(LOW_OFFSET));
	CHECK(is_private(LOW_OFFSET + PAGE_SIZE));
	CHECK(!is_private(LOW_OFFSET + PAGE_SIZE * 2));

	CHECK(!convert(LOW_OFFSET + PAGE_SIZE, PAGE_SIZE, 0));
	CHECK(is_private(LOW_OFFSET));
	CHECK(!is_private(LOW_OFFSET + PAGE_SIZE));

	CHECK(!convert(LOW_OFFSET, PAGE_SIZE, 0));
	CHECK(!is_private(LOW_OFFSET));
}

/* Convert ranges whose offsets and sizes don't fit into 32 bits. */
static void test_beyond_4g(void)
{
	CHECK(!convert(HIGH_OFFSET, PAGE_SIZE, PRIVATE));
	CHECK(is_private(HIGH_OFFSET));
	CHECK(!is_private(LOW_OFFSET));
	CHECK(!convert(HIGH_OFFSET, PAGE_SIZE, 0));
	CHECK(!is_private(HIGH_OFFSET));

	/* A size that is 0 in 32 bits, and one that isn't. */
	CHECK(!convert(0, 3 * SZ_4G, PRIVATE));
	CHECK(is_private(0));
	CHECK(is_private(3 * SZ_4G - PAGE_SIZE));
	CHECK(!is_private(3 * SZ_4G));
	CHECK(!convert(PAGE_SIZE, SZ_4G + PAGE_SIZE, 0));
	CHECK(is_private(0));
	CHECK(!is_private(PAGE_SIZE));
	CHECK(!is_private(SZ_4G + PAGE_SIZE));
	CHECK(is_private(SZ_4G + PAGE_SIZE * 2));

	CHECK(!convert(0, SZ_1T, PRIVATE));
	CHECK(is_private(SZ_1T - PAGE_SIZE));
	CHECK(is_private(SZ_4G));
	CHECK(!convert(0, SZ_1T, 0));
	CHECK(!is_private(SZ_1T - PAGE_SIZE));
}

static void test_error_offset(void)
{
	struct kvm_memory_attributes2 attr = {
		.offset = HIGH_OFFSET - PAGE_SIZE,
		.size = PAGE_SIZE * 4,
		.attributes = PRIVATE,
		.error_offset = NO_ERROR_OFFSET,
	};
	struct kvm_memory_attributes2 expected = attr;
	void *mem = map_page(HIGH_OFFSET);
	struct iovec iov = {
		.iov_base = mem,
		.iov_len = PAGE_SIZE,
	};
	int pipe_fds[2];

	/* A pipe that has a page keeps it from becoming private. */
	CHECK(!pipe(pipe_fds));
	memset(mem, 0x5a, PAGE_SIZE);
	CHECK(syscall(__NR_vmsplice, pipe_fds[1], &iov, 1, 0) == PAGE_SIZE);

	/* All of error_offset is written, and nothing else. */
	expected.error_offset = HIGH_OFFSET;
	CHECK(set_attributes(gmem_fd, &attr) == EAGAIN);
	CHECK(!memcmp(&attr, &expected, sizeof(attr)));
	CHECK(!is_private(HIGH_OFFSET - PAGE_SIZE));

	/* What's in there already doesn't matter. */
	CHECK(set_attributes(gmem_fd, &attr) == EAGAIN);
	CHECK(!memcmp(&attr, &expected, sizeof(attr)));

	close(pipe_fds[0]);
	close(pipe_fds[1]);
	CHECK(!set_attributes(gmem_fd, &attr));
	CHECK(!memcmp(&attr, &expected, sizeof(attr)));
	CHECK(is_private(HIGH_OFFSET));

	attr.attributes = 0;
	CHECK(!set_attributes(gmem_fd, &attr));
	munmap(mem, PAGE_SIZE);
}

static void test_einval(void)
{
	static const struct {
		__u64 offset, size, attributes, flags;
	} bad[] = {
		/* The low halves alone would be fine. */
		{ 0, PAGE_SIZE, PRIVATE | SZ_4G },
		{ 0, PAGE_SIZE, PRIVATE, SZ_4G },
		{ SZ_1T + LOW_OFFSET, PAGE_SIZE, PRIVATE },
		{ 0, SZ_1T + PAGE_SIZE, PRIVATE },
		{ SZ_1T - PAGE_SIZE, PAGE_SIZE * 2, PRIVATE },
		{ -PAGE_SIZE, PAGE_SIZE, PRIVATE },
		{ PAGE_SIZE, -PAGE_SIZE, PRIVATE },

		{ 0, 0, PRIVATE },
		{ 0, PAGE_SIZE + 1, PRIVATE },
		{ 1, PAGE_SIZE, PRIVATE },
		{ 0, PAGE_SIZE, PRIVATE | 1 },
		{ 0, PAGE_SIZE, PRIVATE, 1 },
	};
	struct kvm_memory_attributes2 attr;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		attr = (struct kvm_memory_attributes2) {
			.offset = bad[i].offset,
			.size = bad[i].size,
			.attributes = bad[i].attributes,
			.flags = bad[i].flags,
			.error_offset = NO_ERROR_OFFSET,
		};
		if (set_attributes(gmem_fd, &attr) != EINVAL) {
			ksft_print_msg("bad[%u] isn't EINVAL\n", i);
			failed = true;
			return;
		}
		CHECK(attr.error_offset == NO_ERROR_OFFSET);
	}

	/* Up to the last half of the last word. */
	for (i = 0; i < ARRAY_SIZE(attr.reserved) * 2; i++) {
		attr = (struct kvm_memory_attributes2) {
			.size = PAGE_SIZE,
			.attributes = PRIVATE,
			.error_offset = NO_ERROR_OFFSET,
		};
		attr.reserved[i / 2] = i & 1 ? SZ_4G : 1;
		CHECK(set_attributes(gmem_fd, &attr) == EINVAL);
		CHECK(attr.error_offset == NO_ERROR_OFFSET);
	}

	CHECK(!is_private(0));
	CHECK(!is_private(LOW_OFFSET));

	attr.reserved[ARRAY_SIZE(attr.reserved) - 1] = 0;
	CHECK(!set_attributes(gmem_fd, &attr));
	CHECK(is_private(0));
	CHECK(!convert(0, PAGE_SIZE, 0));
}

static void test_efault(void)
{
	CHECK(set_attributes(gmem_fd, NULL) == EFAULT);
	CHECK(set_attributes(gmem_fd, (void *)-(long)PAGE_SIZE) == EFAULT);

	/* The kernel's half of the address space, as far as there is one. */
	CHECK(set_attributes(gmem_fd, (void *)-64) == EFAULT);
}

static void test_enotty(void)
{
	struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
	};

	CHECK(set_attributes(vm_fd, &attr) == ENOTTY);

	CHECK(ioctl(gmem_fd, KVM_SET_MEMORY_ATTRIBUTES, &attr) == -1);
	CHECK(errno == ENOTTY);
	CHECK(ioctl(gmem_fd, _IO(KVMIO, 0xd2), &attr) == -1);
	CHECK(errno == ENOTTY);

	/* The older ioctl isn't there for this VM, either. */
	CHECK(ioctl(vm_fd, KVM_SET_MEMORY_ATTRIBUTES, &attr) == -1);
	CHECK(errno == ENOTTY);
}

static void test_eio(void)
{
	int status = 0;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(convert(0, PAGE_SIZE, PRIVATE));

	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFEXITED(status));
	CHECK(WEXITSTATUS(status) == EIO);
	CHECK(!is_private(0));
}

static int create_vm(void)
{
	int fd = ioctl(kvm_fd, KVM_CREATE_VM, KVM_X86_SW_PROTECTED_VM);

	if (fd < 0)
		ksft_exit_fail_msg("KVM_CREATE_VM: %s\n", strerror(errno));
	return fd;
}

static int create_gmem(int fd, __u64 size, __u64 flags)
{
	struct kvm_create_guest_memfd args = {
		.size = size,
		.flags = flags,
	};

	fd = ioctl(fd, KVM_CREATE_GUEST_MEMFD, &args);
	if (fd < 0)
		ksft_exit_fail_msg("KVM_CREATE_GUEST_MEMFD: %s\n", strerror(errno));
	return fd;
}

static void test_vm_mode(void)
{
	struct kvm_memory_attributes2 attr = {
		.offset = 0,
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
	};
	int vm, fd;

	/* A VM that doesn't ask for anything has the older ioctl. */
	vm = create_vm();
	CHECK(ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_ATTRIBUTES) == PRIVATE);
	CHECK(!ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	fd = create_gmem(vm, PAGE_SIZE, GUEST_MEMFD_FLAG_MMAP);
	CHECK(set_attributes(fd, &attr) == ENOTTY);
	CHECK(!ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr));
	close(fd);
	close(vm);
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "uapi", test_uapi },
	{ "convert", test_convert },
	{ "beyond_4g", test_beyond_4g },
	{ "error_offset", test_error_offset },
	{ "einval", test_einval },
	{ "efault", test_efault },
	{ "enotty", test_enotty },
	{ "eio", test_eio },
	{ "vm_mode", test_vm_mode },
};

int main(void)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_IN_PLACE,
		.args = { PRIVATE },
	};
	bool in_place_is_default;
	unsigned int i;

	ksft_print_header();

	kvm_fd = open("/dev/kvm", O_RDWR);
	if (kvm_fd < 0)
		ksft_exit_skip("No /dev/kvm\n");

	in_place_is_default = ioctl(kvm_fd, KVM_CHECK_EXTENSION,
				    KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
	if (!(ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES) &
	      (1 << KVM_X86_SW_PROTECTED_VM)))
		ksft_exit_skip("No software-protected VMs\n");

	vm_fd = create_vm();
	if (ioctl(vm_fd, KVM_ENABLE_CAP, &cap))
		ksft_exit_fail_msg("KVM_ENABLE_CAP: %s\n", strerror(errno));
	gmem_fd = create_gmem(vm_fd, SZ_1T, GMEM_FLAGS);

	ksft_set_plan(ARRAY_SIZE(tests));
	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (tests[i].run == test_vm_mode && in_place_is_default) {
			ksft_test_result_code(KSFT_SKIP, tests[i].name,
					      "no VM is in VM mode if in-place mode is the default");
			continue;
		}

		failed = false;
		tests[i].run();
		ksft_test_result(!failed, "%s\n", tests[i].name);
	}

	ksft_finished();
}
