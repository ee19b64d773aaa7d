// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test that VMs without private memory, which is all VMs on most architectures,
 * offer no conversions and refuse to convert, and that their memory is as before
 * after they have refused.
 *
 * The clauses that the tests' comments name, e.g. C4, are those of
 * Documentation/virt/kvm/guest_memfd.rst.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <linux/bits.h>
#include <linux/sizes.h>

#include "kvm_syscalls.h"
#include "kvm_test_harness.h"
#include "kvm_util.h"
#include "test_util.h"
#include "ucall_common.h"

#define GMEM_SLOT	10
#define GMEM_GPA	((gpa_t)SZ_4G)
#define NR_PAGES	16

#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

/* What error_offset is set to, as no call may write it. */
#define NO_ERROR_OFFSET	0xdeadbeefcafe5a5aul

/* Verify that each page has its word of a generation, and replace it by the next. */
static void guest_code(u64 *mem, u64 stride)
{
	u64 generation, i;

	for (generation = 0; ; generation++) {
		for (i = 0; i < NR_PAGES; i++) {
			GUEST_ASSERT_EQ(mem[i * stride], generation << 32 | i);
			mem[i * stride] = (generation + 1) << 32 | i;
		}
		GUEST_SYNC(generation);
	}
}

/* A VM with one vCPU, and a guest_memfd at GMEM_GPA. */
struct gmem {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u64 generation;
	u64 flags;
	size_t page_size;
	size_t size;
	u8 *mem;
	int fd;
};

static u64 *page_word(struct gmem *gmem, int page)
{
	return (u64 *)(gmem->mem + page * gmem->page_size);
}

static void run_guest(struct gmem *gmem)
{
	struct ucall uc;

	vcpu_run(gmem->vcpu);
	switch (get_ucall(gmem->vcpu, &uc)) {
	case UCALL_SYNC:
		TEST_ASSERT_EQ(uc.args[1], gmem->generation);
		gmem->generation++;
		break;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
		break;
	default:
		TEST_FAIL("Unexpected ucall %lu", uc.cmd);
	}
}

static void gmem_create(struct gmem *gmem, u64 flags)
{
	int i;

	gmem->vm = vm_create_with_one_vcpu(&gmem->vcpu, guest_code);
	gmem->page_size = max_t(size_t, gmem->vm->page_size, getpagesize());
	gmem->size = NR_PAGES * gmem->page_size;
	gmem->flags = flags;
	gmem->generation = 0;

	gmem->fd = vm_create_guest_memfd(gmem->vm, gmem->size, flags);
	vm_set_user_memory_region2(gmem->vm, GMEM_SLOT, KVM_MEM_GUEST_MEMFD, GMEM_GPA,
				   gmem->size, NULL, gmem->fd, 0);
	gmem->mem = kvm_mmap(gmem->size, PROT_READ | PROT_WRITE, MAP_SHARED, gmem->fd);
	if (!(flags & GUEST_MEMFD_FLAG_INIT_SHARED))
		return;

	for (i = 0; i < NR_PAGES; i++)
		*page_word(gmem, i) = i;
	virt_map(gmem->vm, GMEM_GPA, GMEM_GPA, gmem->size / gmem->vm->page_size);
	vcpu_args_set(gmem->vcpu, 2, GMEM_GPA, gmem->page_size / sizeof(u64));
	run_guest(gmem);
}

/* Verify that the memory has its contents, and that the host still has it mapped. */
static void check_memory(struct gmem *gmem)
{
	struct rusage before, after;
	int i;

	if (!(gmem->flags & GUEST_MEMFD_FLAG_INIT_SHARED)) {
		for (i = 0; i < NR_PAGES; i++)
			TEST_ASSERT(read_raises_sigbus(page_word(gmem, i)),
				    "The host can read page %d", i);
		return;
	}

	getrusage(RUSAGE_THREAD, &before);
	for (i = 0; i < NR_PAGES; i++)
		READ_ONCE(*page_word(gmem, i));
	getrusage(RUSAGE_THREAD, &after);
	TEST_ASSERT_EQ(after.ru_minflt - before.ru_minflt, 0);

	/* The guest verifies what it wrote last time, and replaces it. */
	run_guest(gmem);
	for (i = 0; i < NR_PAGES; i++)
		TEST_ASSERT_EQ(*page_word(gmem, i), gmem->generation << 32 | i);
}

/*
 * Returns whether VMs are in in-place mode without asking for it, those that have
 * no private memory included.  Where no VM has private memory, none is.
 */
static bool in_place_is_default(void)
{
	return kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES);
}

FIXTURE(no_private_mem) {
	struct gmem gmem;
	bool in_place;
};

FIXTURE_VARIANT(no_private_mem) {
	u64 flags;
};

FIXTURE_VARIANT_ADD(no_private_mem, init_shared) {
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
};

/* The host can't touch this memory, and can't convert it in order to. */
FIXTURE_VARIANT_ADD(no_private_mem, init_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
};

FIXTURE_SETUP(no_private_mem)
{
	TEST_REQUIRE(kvm_has_cap(KVM_CAP_GUEST_MEMFD));

	self->in_place = in_place_is_default();
	gmem_create(&self->gmem, variant->flags);
}

FIXTURE_TEARDOWN(no_private_mem)
{
	kvm_munmap(self->gmem.mem, self->gmem.size);
	kvm_close(self->gmem.fd);
	kvm_vm_free(self->gmem.vm);
}

/* Returns the errno, and verifies that the struct is as it was. */
static int set_attributes(int fd, struct kvm_memory_attributes2 attr)
{
	struct kvm_memory_attributes2 copy;
	int r;

	attr.error_offset = NO_ERROR_OFFSET;
	copy = attr;
	r = ioctl(fd, KVM_SET_MEMORY_ATTRIBUTES2, &attr) ? errno : 0;
	TEST_ASSERT(!memcmp(&attr, &copy, sizeof(attr)),
		    "KVM_SET_MEMORY_ATTRIBUTES2 wrote to its struct, errno %d", r);

	return r;
}

static int enable_cap(struct kvm_vm *vm, u32 cap, u64 attributes, u32 flags)
{
	struct kvm_enable_cap enable_cap = {
		.cap = cap,
		.flags = flags,
		.args = { attributes },
	};

	return __vm_ioctl(vm, KVM_ENABLE_CAP, &enable_cap) ? errno : 0;
}

static void check_caps(struct kvm_vm *vm)
{
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_IN_PLACE), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES), 0);
	TEST_ASSERT_EQ(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS),
		       GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED);
}

/* C19, C20, C21: Look up the attributes of such a VM, and where all VMs are such. */
TEST_F(no_private_mem, caps)
{
	check_caps(self->gmem.vm);
#ifndef __x86_64__
	ASSERT_EQ(0, kvm_check_cap(KVM_CAP_GUEST_MEMFD_IN_PLACE));
	ASSERT_EQ(0, kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(0, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES));
	ASSERT_NE(0, access("/sys/module/kvm/parameters/gmem_in_place_conversion", F_OK));
#endif
}

/* C19, C20: Ask for in-place mode, with all kinds of attributes and flags. */
TEST_F(no_private_mem, enable_cap)
{
	const u32 caps[] = {
		KVM_CAP_GUEST_MEMFD_IN_PLACE,
		KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES,
	};
	const struct kvm_memory_attributes2 attr = {
		.size = self->gmem.size,
		.attributes = PRIVATE,
	};
	struct kvm_vm *vm = vm_create_barebones();
	int i, j;

	for (i = 0; i < ARRAY_SIZE(caps); i++) {
		ASSERT_EQ(EINVAL, enable_cap(vm, caps[i], 0, 0));
		ASSERT_EQ(EINVAL, enable_cap(vm, caps[i], ~0ull, 0));
		for (j = 0; j < 64; j++) {
			ASSERT_EQ(EINVAL, enable_cap(vm, caps[i], BIT_ULL(j), 0));
			ASSERT_EQ(EINVAL, enable_cap(vm, caps[i], BIT_ULL(j) | PRIVATE, 0));
		}
		for (j = 0; j < 32; j++)
			ASSERT_EQ(EINVAL, enable_cap(vm, caps[i], PRIVATE, BIT(j)));

		/* Nor does it work once the VM has memory and a vCPU. */
		ASSERT_EQ(EINVAL, enable_cap(self->gmem.vm, caps[i], PRIVATE, 0));
	}
	check_caps(vm);
	kvm_vm_free(vm);

	check_caps(self->gmem.vm);
	ASSERT_EQ(self->in_place ? EINVAL : ENOTTY, set_attributes(self->gmem.fd, attr));
	check_memory(&self->gmem);
}

/* C4, C5, C6: Verify that the errno depends on the VM's mode, and not on the arguments. */
TEST_F(no_private_mem, set_attributes)
{
	const int expected = self->in_place ? EINVAL : ENOTTY;
	const size_t page_size = self->gmem.page_size;
	const size_t size = self->gmem.size;
	const struct kvm_memory_attributes2 args[] = {
		{ .size = size },
		{ .size = page_size },
		{ .offset = size - page_size, .size = page_size },

		/* Wrong for any VM. */
		{ .size = 0 },
		{ .size = page_size - 1 },
		{ .offset = 1, .size = page_size },
		{ .offset = page_size, .size = size },
		{ .offset = page_size, .size = -page_size },
		{ .size = size, .flags = 1 },
		{ .size = size, .attributes = BIT_ULL(0) },
		{ .size = size, .attributes = ~PRIVATE },
		{ .size = size, .reserved[0] = 1 },
		{ .size = size, .reserved[10] = 1 },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(args); i++) {
		struct kvm_memory_attributes2 attr = args[i];

		ASSERT_EQ(expected, set_attributes(self->gmem.fd, attr)) TH_LOG("args[%d]", i);
		attr.attributes ^= PRIVATE;
		ASSERT_EQ(expected, set_attributes(self->gmem.fd, attr)) TH_LOG("args[%d]", i);
	}
	check_memory(&self->gmem);
}

/* C4: Convert in another process, and with a struct that can't be read. */
TEST_F(no_private_mem, order)
{
	const struct kvm_memory_attributes2 attr = { .size = self->gmem.size };
	int status;
	pid_t pid;
	void *mem;

	mem = kvm_mmap(getpagesize(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	ASSERT_EQ(-1, ioctl(self->gmem.fd, KVM_SET_MEMORY_ATTRIBUTES2, mem));
	ASSERT_EQ(self->in_place ? EFAULT : ENOTTY, errno);

	pid = fork();
	if (!pid) {
		if (set_attributes(self->gmem.fd, attr) != (self->in_place ? EIO : ENOTTY))
			_exit(1);
		ioctl(self->gmem.fd, KVM_SET_MEMORY_ATTRIBUTES2, mem);
		_exit(errno != (self->in_place ? EIO : ENOTTY));
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);

	kvm_munmap(mem, getpagesize());
	check_memory(&self->gmem);
}

/* C1, C4: Use the command on other files, and other commands on a guest_memfd. */
TEST_F(no_private_mem, wrong_fd)
{
	const struct kvm_memory_attributes2 attr = { .size = self->gmem.size };
	const unsigned long cmds[] = {
		KVM_SET_MEMORY_ATTRIBUTES,
		_IO(KVMIO, 0xd2),
		_IOW(KVMIO, 0xd2, struct kvm_memory_attributes2),
		_IOWR(KVMIO, 0xd1, struct kvm_memory_attributes2),
		KVM_CREATE_GUEST_MEMFD,
		KVM_CHECK_EXTENSION,
		KVM_ENABLE_CAP,
	};
	const int fds[] = { self->gmem.vm->fd, self->gmem.vcpu->fd, self->gmem.vm->kvm_fd };
	u8 buf[256] = {};
	int memfd, i;

	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		ASSERT_EQ(-1, ioctl(self->gmem.fd, cmds[i], buf)) TH_LOG("0x%lx", cmds[i]);
		ASSERT_EQ(ENOTTY, errno);
	}

	/* Architectures differ in what these say to what they don't know. */
	for (i = 0; i < ARRAY_SIZE(fds); i++) {
		ASSERT_EQ(-1, ioctl(fds[i], _IO(KVMIO, 0xff), NULL));
		ASSERT_TRUE(errno == ENOTTY || errno == EINVAL) TH_LOG("errno %d", errno);
		ASSERT_EQ(errno, set_attributes(fds[i], attr)) TH_LOG("fds[%d]", i);
	}

	memfd = kvm_memfd_alloc(self->gmem.size, false);
	ASSERT_EQ(ENOTTY, set_attributes(memfd, attr));
	kvm_close(memfd);
	check_memory(&self->gmem);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
