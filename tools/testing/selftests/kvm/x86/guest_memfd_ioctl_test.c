// SPDX-License-Identifier: GPL-2.0-only
/*
 * Test what KVM_SET_MEMORY_ATTRIBUTES2 takes and refuses, which of a VM's two
 * modes has it, and how userspace can tell.
 */
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/align.h>
#include <linux/falloc.h>

#include "gmem_fixture.h"
#include "gmem_util.h"
#include "kvm_syscalls.h"
#include "kvm_util.h"
#include "processor.h"
#include "test_util.h"

#define FAILSLAB_PATH	"/sys/kernel/debug/failslab/"

/* Returns the errno that a child with an address space of its own gets. */
static int child_set_attributes(int fd, unsigned long cmd, void *attr)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid)
		_exit(ioctl(fd, cmd, attr) ? errno : 0);

	TEST_ASSERT_EQ(waitpid(pid, &status, 0), pid);
	TEST_ASSERT(WIFEXITED(status), "Child died, status 0x%x", status);
	return WEXITSTATUS(status);
}

/* C1, C2: Verify the command's number, and where its words are. */
TEST(uapi)
{
	ASSERT_EQ(0xc080aed2, KVM_SET_MEMORY_ATTRIBUTES2);
	ASSERT_EQ(128, sizeof(struct kvm_memory_attributes2));

#define ASSERT_OFFSET(word, field) \
	ASSERT_EQ((word) * sizeof(__u64), offsetof(struct kvm_memory_attributes2, field))
	ASSERT_OFFSET(0, address);
	ASSERT_OFFSET(0, offset);
	ASSERT_OFFSET(1, size);
	ASSERT_OFFSET(2, attributes);
	ASSERT_OFFSET(3, flags);
	ASSERT_OFFSET(4, error_offset);
	ASSERT_OFFSET(5, reserved);
	ASSERT_OFFSET(5 + 11, reserved[11]);

	/* The words that the ioctl has in common with its predecessor. */
	ASSERT_EQ(0x4020aed2, KVM_SET_MEMORY_ATTRIBUTES);
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, address),
		  offsetof(struct kvm_memory_attributes2, address));
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, size),
		  offsetof(struct kvm_memory_attributes2, size));
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, attributes),
		  offsetof(struct kvm_memory_attributes2, attributes));
	ASSERT_EQ(offsetof(struct kvm_memory_attributes, flags),
		  offsetof(struct kvm_memory_attributes2, flags));
}

FIXTURE(modes) {
	struct kvm_vm *vm;
	bool in_place;
};

FIXTURE_VARIANT(modes) {
	unsigned long type;
};

FIXTURE_VARIANT_ADD(modes, sw_protected_vm) {
	.type = KVM_X86_SW_PROTECTED_VM,
};

/* No private memory. */
FIXTURE_VARIANT_ADD(modes, default_vm) {
	.type = VM_TYPE_DEFAULT,
};

FIXTURE_SETUP(modes)
{
	if (variant->type == KVM_X86_SW_PROTECTED_VM)
		TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(variant->type));

	self->in_place = in_place_is_default();
	self->vm = vm_create_barebones_type(variant->type);
}

FIXTURE_TEARDOWN(modes)
{
	kvm_vm_free(self->vm);
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

static int enable_in_place(struct kvm_vm *vm, u64 attributes, u32 flags)
{
	return enable_cap(vm, KVM_CAP_GUEST_MEMFD_IN_PLACE, attributes, flags);
}

static int set_vm_attributes(struct kvm_vm *vm, u64 attributes)
{
	struct kvm_memory_attributes attr = {
		.address = GMEM_GPA,
		.size = GMEM_SIZE,
		.attributes = attributes,
	};

	return __vm_ioctl(vm, KVM_SET_MEMORY_ATTRIBUTES, &attr) ? errno : 0;
}

static int set_gmem_attributes(struct kvm_vm *vm, u64 attributes)
{
	struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = attributes,
	};
	int fd, r;

	fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
	r = set_attributes(fd, &attr);
	kvm_close(fd);

	return r;
}

/* C20: Ask for attributes that don't exist, with flags, or by the wrong capability. */
TEST_F(modes, enable_einval)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_GUEST_MEMFD_IN_PLACE,
		.args = { PRIVATE, ~0ull, ~0ull, ~0ull },
	};
	int i;

	ASSERT_EQ(EINVAL, enable_in_place(self->vm, 0, 0));
	for (i = 0; i < 64; i++) {
		if (BIT_ULL(i) == PRIVATE)
			continue;

		ASSERT_EQ(EINVAL, enable_in_place(self->vm, BIT_ULL(i), 0));
		ASSERT_EQ(EINVAL, enable_in_place(self->vm, BIT_ULL(i) | PRIVATE, 0));
	}
	for (i = 0; i < 32; i++)
		ASSERT_EQ(EINVAL, enable_in_place(self->vm, PRIVATE, BIT(i)));

	/* The attributes of guest_memfds can be looked up, but not enabled. */
	ASSERT_EQ(EINVAL, enable_cap(self->vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES, 0, 0));
	ASSERT_EQ(EINVAL, enable_cap(self->vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES,
				     PRIVATE, 0));
	ASSERT_EQ(EINVAL, enable_cap(self->vm, KVM_CAP_MEMORY_ATTRIBUTES, PRIVATE, 0));

	ASSERT_EQ(self->in_place && variant->type != VM_TYPE_DEFAULT,
		  vm_has_gmem_attributes(self->vm));

	/* Not for /dev/kvm, either, and other args have no meaning. */
	ASSERT_NE(0, __kvm_ioctl(self->vm->kvm_fd, KVM_ENABLE_CAP, &cap));
	ASSERT_EQ(variant->type == VM_TYPE_DEFAULT ? EINVAL : 0,
		  __vm_ioctl(self->vm, KVM_ENABLE_CAP, &cap) ? errno : 0);
	ASSERT_EQ(variant->type != VM_TYPE_DEFAULT, vm_has_gmem_attributes(self->vm));
}

/* C20: Ask for in-place mode once the VM has a vCPU, a memslot or a guest_memfd. */
TEST_F(modes, enable_ebusy)
{
	struct kvm_vm *vm;
	void *mem;
	int fd;

	__vm_vcpu_add(self->vm, 0);

	/* Either errno is fine, as there are two reasons. */
	if (variant->type == VM_TYPE_DEFAULT) {
		ASSERT_NE(0, enable_in_place(self->vm, PRIVATE, 0));
		return;
	}
	ASSERT_EQ(EBUSY, enable_in_place(self->vm, PRIVATE, 0));
	ASSERT_EQ(EINVAL, enable_in_place(self->vm, 0, 0));
	ASSERT_EQ(EINVAL, enable_in_place(self->vm, PRIVATE, 1));
	ASSERT_EQ(EINVAL, enable_cap(self->vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES,
				     PRIVATE, 0));

	vm = vm_create_barebones_type(variant->type);
	mem = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	vm_set_user_memory_region(vm, 0, 0, 0, PAGE_SIZE, mem);
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));
	kvm_vm_free(vm);

	vm = vm_create_barebones_type(variant->type);
	fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));
	kvm_close(fd);
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));

	/* The mode is still what it was. */
	ASSERT_EQ(self->in_place, vm_has_gmem_attributes(vm));
	kvm_vm_free(vm);
}

/* C20: Look up what can be enabled, before and after it's enabled, and if it's too late. */
TEST_F(modes, check_in_place)
{
	const bool has_private = variant->type == KVM_X86_SW_PROTECTED_VM;
	const u64 expected = has_private ? PRIVATE : 0;

	ASSERT_EQ(PRIVATE, kvm_check_cap(KVM_CAP_GUEST_MEMFD_IN_PLACE));
	ASSERT_EQ(expected, vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_IN_PLACE));

	ASSERT_EQ(has_private ? 0 : EINVAL, enable_in_place(self->vm, PRIVATE, 0));
	ASSERT_EQ(expected, vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_IN_PLACE));

	__vm_vcpu_add(self->vm, 0);
	ASSERT_EQ(expected, vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_IN_PLACE));
	ASSERT_EQ(PRIVATE, kvm_check_cap(KVM_CAP_GUEST_MEMFD_IN_PLACE));
}

/* C19, C20, C21: Look up what userspace gets if it asks for nothing. */
TEST_F(modes, default_mode)
{
	const bool has_private = variant->type == KVM_X86_SW_PROTECTED_VM;
	u64 flags = vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_FLAGS);
	u64 gmem_attrs = has_private && self->in_place ? PRIVATE : 0;
	u64 vm_attrs = has_private && !self->in_place ? PRIVATE : 0;
	u64 init_shared = vm_attrs ? 0 : GUEST_MEMFD_FLAG_INIT_SHARED;
	struct stat st;

	/* There's a parameter if and only if there is something to choose. */
	if (stat(GMEM_PARAM_PATH, &st)) {
		ASSERT_EQ(ENOENT, errno);
		ASSERT_TRUE(self->in_place);
	} else {
		ASSERT_EQ(0444, st.st_mode & 0777);
	}

	ASSERT_EQ(self->in_place ? PRIVATE : 0,
		  kvm_check_cap(KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(self->in_place ? 0 : PRIVATE, kvm_check_cap(KVM_CAP_MEMORY_ATTRIBUTES));

	ASSERT_EQ(gmem_attrs, vm_check_cap(self->vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(vm_attrs, vm_check_cap(self->vm, KVM_CAP_MEMORY_ATTRIBUTES));

	ASSERT_EQ(GUEST_MEMFD_FLAG_MMAP, flags & GUEST_MEMFD_FLAG_MMAP);
	ASSERT_EQ(init_shared, flags & GUEST_MEMFD_FLAG_INIT_SHARED);
}

/* Returns the errno of creating a guest_memfd. */
static int try_gmem_flags(struct kvm_vm *vm, u64 flags)
{
	int fd = __vm_create_guest_memfd(vm, PAGE_SIZE, flags);

	if (fd < 0)
		return errno;

	kvm_close(fd);
	return 0;
}

/* C21, C22: Verify that the flags that are offered are the ones that work. */
TEST_F(modes, gmem_flags)
{
	const bool has_private = variant->type == KVM_X86_SW_PROTECTED_VM;
	bool in_place = self->in_place;
	struct kvm_vm *vm = self->vm;
	u64 offered;
	int i;

	for (;;) {
		offered = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);
		ASSERT_EQ(GUEST_MEMFD_FLAG_MMAP |
			  (has_private && !in_place ? 0 : GUEST_MEMFD_FLAG_INIT_SHARED), offered);

		for (i = 0; i < 64; i++) {
			const int r = offered & BIT_ULL(i) ? 0 : EINVAL;

			ASSERT_EQ(r, try_gmem_flags(vm, BIT_ULL(i)));
			ASSERT_EQ(r, try_gmem_flags(vm, BIT_ULL(i) | GUEST_MEMFD_FLAG_MMAP));
		}
		ASSERT_EQ(0, try_gmem_flags(vm, 0));
		ASSERT_EQ(0, try_gmem_flags(vm, offered));

		if (in_place || !has_private)
			break;

		/* Test the same in in-place mode, which has them all. */
		vm = ____vm_create(in_place_shape);
		in_place = true;
	}
	if (vm != self->vm)
		kvm_vm_free(vm);
}

/* C1, C4, C20, C22: Verify that in VM mode, the VM has the attributes, and its files don't. */
TEST_F(modes, vm_mode)
{
	const bool has_private = variant->type == KVM_X86_SW_PROTECTED_VM;
	struct kvm_vm *in_place_vm;

	if (self->in_place) {
		ASSERT_EQ(0, vm_check_cap(self->vm, KVM_CAP_MEMORY_ATTRIBUTES));
		ASSERT_EQ(ENOTTY, set_vm_attributes(self->vm, PRIVATE));
		ASSERT_EQ(ENOTTY, set_vm_attributes(self->vm, 0));
		if (!has_private) {
			ASSERT_EQ(EINVAL, set_gmem_attributes(self->vm, PRIVATE));
			ASSERT_EQ(EINVAL, set_gmem_attributes(self->vm, 0));
		}
		SKIP(return, "No VM is in VM mode if in-place mode is the default");
	}

	/* Other VMs can be in the other mode, if there are any. */
	in_place_vm = NULL;
	if (kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM)) {
		in_place_vm = ____vm_create(in_place_shape);
		ASSERT_TRUE(vm_has_gmem_attributes(in_place_vm));
	}
	ASSERT_FALSE(vm_has_gmem_attributes(self->vm));

	ASSERT_EQ(has_private ? 0 : EINVAL, set_vm_attributes(self->vm, PRIVATE));
	ASSERT_EQ(0, set_vm_attributes(self->vm, 0));

	ASSERT_EQ(ENOTTY, set_gmem_attributes(self->vm, PRIVATE));
	ASSERT_EQ(ENOTTY, set_gmem_attributes(self->vm, 0));

	if (in_place_vm)
		kvm_vm_free(in_place_vm);
}

/* C19, C20, C21: Verify what a VM gets that asks for in-place mode, and that it keeps it. */
TEST_F(modes, in_place_mode)
{
	struct kvm_vm *vm = self->vm;
	u64 flags;
	int fd;

	/* What the VM has doesn't change if it's refused what it wants. */
	if (variant->type == VM_TYPE_DEFAULT) {
		flags = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);
		ASSERT_EQ(EINVAL, enable_in_place(vm, PRIVATE, 0));
		ASSERT_EQ(0, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
		ASSERT_EQ(flags, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS));
		ASSERT_EQ(self->in_place ? ENOTTY : 0, set_vm_attributes(vm, 0));
		return;
	}

	ASSERT_EQ(0, enable_in_place(vm, PRIVATE, 0));

	/* Asking again changes nothing. */
	ASSERT_EQ(0, enable_in_place(vm, PRIVATE, 0));

	ASSERT_EQ(PRIVATE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(0, vm_check_cap(vm, KVM_CAP_MEMORY_ATTRIBUTES));
	ASSERT_EQ(ENOTTY, set_vm_attributes(vm, PRIVATE));
	ASSERT_EQ(ENOTTY, set_vm_attributes(vm, 0));

	flags = vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_FLAGS);
	ASSERT_EQ(GMEM_FLAGS, flags & GMEM_FLAGS);

	ASSERT_EQ(0, set_gmem_attributes(vm, PRIVATE));
	ASSERT_EQ(0, set_gmem_attributes(vm, 0));

	/* Verify that the mode stays. */
	fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
	__vm_vcpu_add(vm, 0);
	ASSERT_EQ(PRIVATE, vm_check_cap(vm, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES));
	ASSERT_EQ(EBUSY, enable_in_place(vm, PRIVATE, 0));
	kvm_close(fd);
}

/* C1, C4, C6: Use the command on other files, and similar commands on a guest_memfd. */
TEST_F(gmem, wrong_fd)
{
	struct kvm_memory_attributes2 attr = {
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
		.error_offset = NO_ERROR_OFFSET,
	};
	struct kvm_memory_attributes vm_attr = {
		.size = PAGE_SIZE,
		.attributes = PRIVATE,
	};
	const unsigned long cmds[] = {
		_IO(KVMIO, 0xd2),
		_IOR(KVMIO, 0xd2, struct kvm_memory_attributes2),
		_IOW(KVMIO, 0xd2, struct kvm_memory_attributes2),
		_IOWR(KVMIO, 0xd2, struct kvm_memory_attributes),
		_IOWR(KVMIO, 0xd1, struct kvm_memory_attributes2),
		_IOWR(0, 0xd2, struct kvm_memory_attributes2),
		KVM_CREATE_GUEST_MEMFD,
		KVM_CHECK_EXTENSION,
		_IO(KVMIO, 0xff),
	};
	int unknown, fd, i;

	set_state(self->fd, MIXED);

	ASSERT_EQ(ENOTTY, set_attributes(self->vm->fd, &attr));

	/* x86 has EINVAL for what it doesn't know on these two. */
	unknown = ioctl(self->vcpu->fd, _IO(KVMIO, 0xff), NULL) ? errno : 0;
	ASSERT_TRUE(unknown == EINVAL || unknown == ENOTTY);
	ASSERT_EQ(unknown, set_attributes(self->vcpu->fd, &attr));
	ASSERT_EQ(unknown, set_attributes(self->vm->kvm_fd, &attr));

	fd = kvm_memfd_alloc(GMEM_SIZE, false);
	ASSERT_EQ(ENOTTY, set_attributes(fd, &attr));
	kvm_close(fd);

	/* Commands that a guest_memfd doesn't know. */
	ASSERT_EQ(-1, ioctl(self->fd, KVM_SET_MEMORY_ATTRIBUTES, &vm_attr));
	ASSERT_EQ(ENOTTY, errno);
	for (i = 0; i < ARRAY_SIZE(cmds); i++) {
		ASSERT_EQ(-1, ioctl(self->fd, cmds[i], &attr)) TH_LOG("0x%lx", cmds[i]);
		ASSERT_EQ(ENOTTY, errno);
	}

	ASSERT_EQ(NO_ERROR_OFFSET, attr.error_offset);
	check_state(self->mem, MIXED);
}

/* C4, C6: Convert in a process that isn't the VM's, but has its guest_memfd. */
TEST_F(gmem, wrong_process)
{
	struct kvm_memory_attributes2 *attr;

	/* Shared with the child, to see whether something is written. */
	attr = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	attr->size = GMEM_SIZE;
	attr->error_offset = NO_ERROR_OFFSET;

	set_state(self->fd, MIXED);
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	attr->attributes = PRIVATE;
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, attr));
	ASSERT_EQ(NO_ERROR_OFFSET, attr->error_offset);
	check_state(self->mem, MIXED);

	/* The same struct works in the VM's process. */
	ASSERT_EQ(0, set_attributes(self->fd, attr));
	ASSERT_EQ(NO_ERROR_OFFSET, attr->error_offset);
	check_state(self->mem, ALL_PAGES);
	kvm_munmap(attr, PAGE_SIZE);
}

/* C2, C4, C6: Use structs that can't be read or written, or not all of them. */
TEST_F(gmem, bad_struct)
{
	struct kvm_memory_attributes2 *attr;
	void *mem;

	set_state(self->fd, MIXED);

	ASSERT_EQ(EFAULT, set_attributes(self->fd, NULL));

	/* The first half of a valid struct, and then nothing. */
	mem = kvm_mmap(PAGE_SIZE * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	attr = mem + PAGE_SIZE - sizeof(*attr) / 2;
	attr->size = GMEM_SIZE;
	attr->attributes = PRIVATE;
	attr->error_offset = NO_ERROR_OFFSET;
	ASSERT_EQ(0, mprotect(mem + PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, attr));
	ASSERT_EQ(NO_ERROR_OFFSET, attr->error_offset);
	ASSERT_EQ(EFAULT, set_attributes(self->fd, mem + PAGE_SIZE));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, mem + PAGE_SIZE - sizeof(*attr) + 1));
	check_state(self->mem, MIXED);

	/* The struct isn't written to if there is nothing to report. */
	attr = mem;
	attr->size = PAGE_SIZE;
	attr->attributes = PRIVATE;
	attr->flags = 1;
	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	check_state(self->mem, MIXED);

	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ | PROT_WRITE));
	attr->offset = GMEM_SIZE / 2;
	attr->size = GMEM_SIZE / 2;
	attr->flags = 0;
	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(0, set_attributes(self->fd, attr));
	check_state(self->mem, MIXED | pages(NR_PAGES / 2, NR_PAGES / 2));
	kvm_munmap(mem, PAGE_SIZE * 2);
}

/* C3, C4, C5, C6: Use ranges that aren't the file's, and unknown attributes and flags. */
TEST_F(gmem, bad_args)
{
	const struct kvm_memory_attributes2 bad[] = {
		/* Sizes and offsets that aren't page-aligned, or not at all. */
		{ .offset = 0, .size = 0 },
		{ .offset = PAGE_SIZE, .size = 0 },
		{ .offset = GMEM_SIZE, .size = 0 },
		{ .offset = 0, .size = 1 },
		{ .offset = 0, .size = PAGE_SIZE - 1 },
		{ .offset = 0, .size = PAGE_SIZE + 1 },
		{ .offset = 1, .size = PAGE_SIZE },
		{ .offset = PAGE_SIZE - 1, .size = PAGE_SIZE },
		{ .offset = PAGE_SIZE + 1, .size = PAGE_SIZE - 1 },
		{ .offset = 1, .size = -1 },

		/* Beyond the end of the file. */
		{ .offset = 0, .size = GMEM_SIZE + PAGE_SIZE },
		{ .offset = PAGE_SIZE, .size = GMEM_SIZE },
		{ .offset = GMEM_SIZE - PAGE_SIZE, .size = PAGE_SIZE * 2 },
		{ .offset = GMEM_SIZE, .size = PAGE_SIZE },
		{ .offset = GMEM_SIZE + PAGE_SIZE, .size = PAGE_SIZE },
		{ .offset = 0, .size = BIT_ULL(44) },
		{ .offset = 0, .size = BIT_ULL(63) },
		{ .offset = 0, .size = -PAGE_SIZE },
		{ .offset = BIT_ULL(44), .size = PAGE_SIZE },
		{ .offset = BIT_ULL(63), .size = PAGE_SIZE },

		/* Wraps, to zero and to what would be in the file. */
		{ .offset = PAGE_SIZE, .size = -PAGE_SIZE },
		{ .offset = -PAGE_SIZE, .size = PAGE_SIZE },
		{ .offset = PAGE_SIZE * 2, .size = -PAGE_SIZE },
		{ .offset = -PAGE_SIZE, .size = PAGE_SIZE * 2 },
		{ .offset = BIT_ULL(63), .size = BIT_ULL(63) },
		{ .offset = BIT_ULL(63) + PAGE_SIZE, .size = BIT_ULL(63) },
	};
	struct kvm_memory_attributes2 attr;
	int i;

#define ASSERT_EINVAL()								\
do {										\
	attr.error_offset = NO_ERROR_OFFSET;					\
	ASSERT_EQ(EINVAL, set_attributes(self->fd, &attr))			\
		TH_LOG("offset 0x%llx size 0x%llx", attr.offset, attr.size);	\
	ASSERT_EQ(NO_ERROR_OFFSET, attr.error_offset);				\
} while (0)

	set_state(self->fd, MIXED);

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		attr = bad[i];
		ASSERT_EINVAL();
		attr.attributes = PRIVATE;
		ASSERT_EINVAL();
	}

	for (i = 0; i < 64; i++) {
		attr = (struct kvm_memory_attributes2) { .size = GMEM_SIZE };

		attr.flags = BIT_ULL(i);
		ASSERT_EINVAL();
		attr.attributes = PRIVATE;
		ASSERT_EINVAL();

		attr.flags = 0;
		attr.attributes = BIT_ULL(i);
		if (attr.attributes == PRIVATE)
			continue;
		ASSERT_EINVAL();
		attr.attributes |= PRIVATE;
		ASSERT_EINVAL();
	}

	for (i = 0; i < ARRAY_SIZE(attr.reserved); i++) {
		attr = (struct kvm_memory_attributes2) { .size = GMEM_SIZE };

		attr.reserved[i] = 1;
		ASSERT_EINVAL();
		attr.reserved[i] = BIT_ULL(63);
		attr.attributes = PRIVATE;
		ASSERT_EINVAL();
	}

	check_state(self->mem, MIXED);

	/* Correct the struct, to be sure that nothing else was wrong. */
	attr.reserved[ARRAY_SIZE(attr.reserved) - 1] = 0;
	ASSERT_EQ(0, set_attributes(self->fd, &attr));
	check_state(self->mem, ALL_PAGES);
}

/* C4: Make two mistakes at once, and verify that the errno is that of the first in order. */
TEST_F(gmem, error_order)
{
	struct kvm_memory_attributes2 *attr, bad;
	char buf[PAGE_SIZE];
	int pipe_fds[2];
	struct kvm_vm *vm;
	void *mem;
	int fd;

	set_state(self->fd, MIXED);

	memset(&bad, 0xff, sizeof(bad));

	/* An unknown command or the wrong mode, and the wrong process or no struct. */
	ASSERT_EQ(ENOTTY, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES, NULL));
	ASSERT_EQ(-1, ioctl(self->fd, KVM_SET_MEMORY_ATTRIBUTES, NULL));
	ASSERT_EQ(ENOTTY, errno);
	if (!in_place_is_default()) {
		vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
		fd = vm_create_guest_memfd(vm, PAGE_SIZE, 0);
		ASSERT_EQ(ENOTTY, child_set_attributes(fd, KVM_SET_MEMORY_ATTRIBUTES2, NULL));
		ASSERT_EQ(ENOTTY, set_attributes(fd, NULL));
		ASSERT_EQ(ENOTTY, set_attributes(fd, &bad));
		kvm_close(fd);
		kvm_vm_free(vm);
	}

	/* The wrong process, and no struct or a wrong one. */
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, NULL));
	ASSERT_EQ(EIO, child_set_attributes(self->fd, KVM_SET_MEMORY_ATTRIBUTES2, &bad));

	/* Half a struct, and all words of that are wrong. */
	mem = kvm_mmap(PAGE_SIZE * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	attr = mem + PAGE_SIZE - sizeof(*attr) / 2;
	memset(attr, 0xff, sizeof(*attr) / 2);
	ASSERT_EQ(0, mprotect(mem + PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, attr));

	/* A wrong argument, and a page that is in use. */
	ASSERT_EQ(PAGE_SIZE, splice_page(pipe_fds, page_hva(self->mem, 10)));
	attr = mem;
	attr->size = GMEM_SIZE;
	attr->attributes = PRIVATE;
	attr->error_offset = NO_ERROR_OFFSET;
	attr->reserved[10] = 1;
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	attr->reserved[10] = 0;
	attr->flags = 1;
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	attr->flags = 0;
	attr->attributes |= 1;
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	attr->attributes = PRIVATE;
	attr->size += PAGE_SIZE;
	ASSERT_EQ(EINVAL, set_attributes(self->fd, attr));
	attr->size = GMEM_SIZE;
	ASSERT_EQ(NO_ERROR_OFFSET, attr->error_offset);

	/* A page that is in use, and no way to say which. */
	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(EFAULT, set_attributes(self->fd, attr));

	ASSERT_EQ(0, mprotect(mem, PAGE_SIZE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(EAGAIN, set_attributes(self->fd, attr));
	ASSERT_EQ(10 * PAGE_SIZE, attr->error_offset);

	unsplice_page(pipe_fds, buf);
	check_state(self->mem, MIXED);
}

/* What guest_memfd has bits for, as a unit, where a range is mixed. */
#define CHUNK_PAGES	(SZ_2M / PAGE_SIZE)

/*
 * A range that takes all of the memory that there is to take for a conversion: for the
 * bits of a chunk at either end, and for one range where the chunks between them were.
 */
static const struct {
	int first, nr;
	int same;	/* A page that has the wanted state, amid the chunks, */
	int used;	/* and one that is in use. */
} enomem_range = { 17, 3 * CHUNK_PAGES, CHUNK_PAGES + 100, 2 * CHUNK_PAGES + 9 };

/* Verify that the range is @private, but for the page that is @same. */
static void check_enomem_range(u8 *mem, bool private, bool same)
{
	const int last = enomem_range.first + enomem_range.nr - 1;
	const int pages[] = {
		enomem_range.first, CHUNK_PAGES - 1, CHUNK_PAGES, enomem_range.same - 1,
		enomem_range.same + 1, enomem_range.used, 3 * CHUNK_PAGES, last,
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(pages); i++)
		TEST_ASSERT_EQ(read_raises_sigbus(page_hva(mem, pages[i])), private);
	TEST_ASSERT_EQ(read_raises_sigbus(page_hva(mem, enomem_range.same)), same);
}

/* C4, C5, C6: Have each allocation of a conversion fail, one after the other. */
TEST_F(gmem, enomem)
{
	const u64 size = 4 * SZ_2M;
	int nth, nth_fd, ignore_fd, verbose_fd, pipe_fds[2], private, nr_failed, fd, r;
	char buf[PAGE_SIZE] = {};
	u64 error_offset;
	bool done;
	u8 *mem;

	nth_fd = open("/proc/thread-self/fail-nth", O_RDWR);
	ignore_fd = open(FAILSLAB_PATH "ignore-gfp-wait", O_WRONLY);
	verbose_fd = open(FAILSLAB_PATH "verbose", O_WRONLY);
	if (nth_fd < 0 || ignore_fd < 0 || verbose_fd < 0)
		SKIP(return, "No fault injection, needs CONFIG_FAILSLAB and debugfs");

	ASSERT_EQ(1, write(ignore_fd, "N", 1));
	ASSERT_EQ(1, write(verbose_fd, "0", 1));

	for (private = 1; private >= 0; private--) {
		for (nth = 1, nr_failed = 0, done = false; !done; nth++) {
			ASSERT_LT(nth, 1000);

			/* A file that has nothing left of what was tried before. */
			fd = vm_create_guest_memfd(self->vm, size, GMEM_FLAGS);
			mem = kvm_mmap(size, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
			if (!private)
				to_private(fd, 0, size / PAGE_SIZE);
			gmem_set_memory_attributes(fd, enomem_range.same * PAGE_SIZE,
						   PAGE_SIZE, private ? PRIVATE : 0);

			/* ENOMEM comes before a page that is in use. */
			if (private)
				ASSERT_EQ(PAGE_SIZE,
					  splice_page(pipe_fds, page_hva(mem, enomem_range.used)));

			error_offset = NO_ERROR_OFFSET;
			snprintf(buf, sizeof(buf), "%d", nth);
			ASSERT_LT(0, pwrite(nth_fd, buf, strlen(buf), 0));
			r = __gmem_set_memory_attributes(fd, enomem_range.first * PAGE_SIZE,
							 enomem_range.nr * PAGE_SIZE,
							 private ? PRIVATE : 0,
							 &error_offset) ? errno : 0;
			ASSERT_LT(0, pread(nth_fd, buf, sizeof(buf), 0));
			ASSERT_EQ(1, pwrite(nth_fd, "0", 1, 0));

			/* Nothing left to fail?  KVM may also have tried again. */
			done = atoi(buf) > 0;
			if (r == ENOMEM) {
				ASSERT_FALSE(done);
				ASSERT_LE(enomem_range.first * PAGE_SIZE, error_offset);
				ASSERT_GT((enomem_range.first + enomem_range.nr) * PAGE_SIZE,
					  error_offset);
				nr_failed++;
			} else if (private) {
				ASSERT_EQ(EAGAIN, r);
				ASSERT_EQ(enomem_range.used * PAGE_SIZE, error_offset);
			} else {
				ASSERT_EQ(0, r);
			}
			check_enomem_range(mem, r ? !private : private, private);

			if (private)
				unsplice_page(pipe_fds, buf);

			/* With memory, and without the page in use, all of it converts. */
			gmem_set_memory_attributes(fd, enomem_range.first * PAGE_SIZE,
						   enomem_range.nr * PAGE_SIZE,
						   private ? PRIVATE : 0);
			check_enomem_range(mem, private, private);

			kvm_munmap(mem, size);
			kvm_close(fd);
		}

		/* Two chunks, and a range, at least. */
		TH_LOG("%d allocations failed on the way to %s", nr_failed,
		       private ? "private" : "shared");
		ASSERT_LE(3, nr_failed);
	}

	kvm_close(nth_fd);
	kvm_close(ignore_fd);
	kvm_close(verbose_fd);
}

/* C2, C4: Convert up to the end of files of many sizes, and beyond it. */
TEST(file_sizes)
{
	static const u64 sizes[] = {
		SZ_4K, 3 * SZ_4K, SZ_2M + SZ_4K,

		/* Around what 32 bits can say, in bytes and in pages. */
		SZ_4G - SZ_4K, SZ_4G, SZ_4G + SZ_4K,
		BIT_ULL(44) - SZ_4K, BIT_ULL(44), BIT_ULL(44) + SZ_4K,

		/* There's a VMM that has one file for all that a guest can address. */
		BIT_ULL(48) - SZ_4K, BIT_ULL(48), BIT_ULL(48) + SZ_4K,

		/* As large as a file can be. */
		BIT_ULL(63) - SZ_4K,
	};
	u64 size, last, i;
	u8 *first_mem, *last_mem;
	struct kvm_vm *vm;
	int fd;

	TEST_REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM));
	vm = ____vm_create(in_place_shape);

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct kvm_memory_attributes2 attr = { .attributes = PRIVATE };

		size = sizes[i];
		last = size - PAGE_SIZE;
		fd = vm_create_guest_memfd(vm, size, GMEM_FLAGS);
		first_mem = kvm_mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, fd);
		last_mem = __kvm_mmap(PAGE_SIZE, PROT_READ, MAP_SHARED, fd, last);
		ASSERT_FALSE(read_raises_sigbus(first_mem));
		ASSERT_FALSE(read_raises_sigbus(last_mem));

		/* One page too many, from the start and at the end. */
		attr.size = size + PAGE_SIZE;
		ASSERT_EQ(EINVAL, set_attributes(fd, &attr)) TH_LOG("size 0x%lx", size);
		attr.offset = size;
		attr.size = PAGE_SIZE;
		ASSERT_EQ(EINVAL, set_attributes(fd, &attr)) TH_LOG("size 0x%lx", size);
		attr.offset = last;
		attr.size = PAGE_SIZE * 2;
		ASSERT_EQ(EINVAL, set_attributes(fd, &attr)) TH_LOG("size 0x%lx", size);
		ASSERT_FALSE(read_raises_sigbus(last_mem));

		/* The last page, the first one, all of them. */
		attr.size = PAGE_SIZE;
		ASSERT_EQ(0, set_attributes(fd, &attr)) TH_LOG("size 0x%lx", size);
		ASSERT_TRUE(read_raises_sigbus(last_mem));
		ASSERT_EQ(!last, read_raises_sigbus(first_mem));
		attr.offset = 0;
		ASSERT_EQ(0, set_attributes(fd, &attr)) TH_LOG("size 0x%lx", size);
		ASSERT_TRUE(read_raises_sigbus(first_mem));
		gmem_set_shared(fd, 0, size);
		ASSERT_FALSE(read_raises_sigbus(first_mem));
		ASSERT_FALSE(read_raises_sigbus(last_mem));
		gmem_set_private(fd, 0, size);
		ASSERT_TRUE(read_raises_sigbus(first_mem));
		ASSERT_TRUE(read_raises_sigbus(last_mem));

		kvm_munmap(first_mem, PAGE_SIZE);
		kvm_munmap(last_mem, PAGE_SIZE);
		kvm_close(fd);
	}
	kvm_vm_free(vm);
}

/* Shared with the process that converts. */
struct converter {
	struct kvm_memory_attributes2 attr;
	u64 nr_conversions;
	int fd;
};

/* Never returns. */
static void convert_until_killed(struct converter *converter, u64 size)
{
	struct kvm_vm *vm = ____vm_create(in_place_shape);
	int fd = vm_create_guest_memfd(vm, size, GMEM_FLAGS);
	u64 i;

	kvm_fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size);
	converter->attr.size = size;
	converter->fd = fd;
	for (i = 1; ; i++) {
		converter->attr.attributes = i & 1 ? PRIVATE : 0;
		TEST_ASSERT_EQ(set_attributes(fd, &converter->attr), 0);
		WRITE_ONCE(converter->nr_conversions, i);
	}
}

/*
 * C4, C5, C6: Kill a process that converts, and verify with its file and its struct
 * that the conversion happened or didn't, and that it didn't if KVM says so: the
 * process doesn't live to see EINTR, but error_offset is written.
 */
TEST(eintr)
{
	const u64 size = SZ_2M, step = 7 * PAGE_SIZE;
	int nr_interrupted = 0;
	struct converter *converter;
	u64 nr_private, nr_shared, nr, i;
	int status, pid;
	u8 *mem;

	require_in_place_vm();
	converter = kvm_mmap(PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);

	for (nr = 1; nr <= 6; nr++) {
		memset(converter, 0, sizeof(*converter));
		converter->attr.error_offset = NO_ERROR_OFFSET;

		/* A VM of its own, and common file descriptors. */
		pid = syscall(__NR_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
		if (!pid)
			convert_until_killed(converter, size);

		while (READ_ONCE(converter->nr_conversions) < nr) {
			ASSERT_EQ(0, waitpid(pid, &status, WNOHANG));
			sched_yield();
		}
		mem = kvm_mmap(size, PROT_READ, MAP_SHARED, converter->fd);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status));

		nr_private = read_raises_sigbus(mem + size - PAGE_SIZE);
		nr_shared = !nr_private;
		for (i = 0; i < size; i += step) {
			if (read_raises_sigbus(mem + i))
				nr_private++;
			else
				nr_shared++;
		}
		ASSERT_TRUE(!nr_private || !nr_shared)
			TH_LOG("%lu private pages, %lu shared pages", nr_private, nr_shared);

		if (converter->attr.error_offset != NO_ERROR_OFFSET) {
			ASSERT_TRUE(IS_ALIGNED(converter->attr.error_offset, PAGE_SIZE));
			ASSERT_GT(size, converter->attr.error_offset);
			ASSERT_EQ(!converter->attr.attributes, !!nr_private);
			nr_interrupted++;
		}

		kvm_munmap(mem, size);
		kvm_close(converter->fd);
	}
	TH_LOG("%d conversions were interrupted", nr_interrupted);
	kvm_munmap(converter, PAGE_SIZE);
}

int main(int argc, char *argv[])
{
	return test_harness_run(argc, argv);
}
