/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Guest memory that is converted in place: the part of a VMM that deals with it
 *
 * This file is meant to be copied.  All that it needs is a kernel's headers.  It
 * prints nothing, never exits, and keeps no state but what is in struct gmem_memory.
 *
 * A VMM calls, in this order:
 *
 *   gmem_create_vm()		a VM that has its memory converted in place
 *   gmem_create_memory()	one guest_memfd, mapped once; fill it through ->mem
 *   gmem_convert()		make private what the guest is to start with
 *
 * and then, for each vCPU and over and over again:
 *
 *   gmem_run_vcpu()		KVM_RUN
 *   gmem_get_request()		does the guest ask for a conversion?
 *   gmem_convert()		do it
 *   gmem_answer_request()	tell the guest
 *
 * Functions that return an int return a negative errno if they fail.
 */
#ifndef GMEM_MEMORY_H
#define GMEM_MEMORY_H

#include <errno.h>
#include <linux/kvm.h>
#include <linux/kvm_para.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define GMEM_PAGE_SIZE	4096ULL

/*
 * How long to wait for somebody else's reference to a page, between the first try and
 * the second, and before the last one.  Twice as long each time, i.e. 102 ms in all.
 */
#define GMEM_FIRST_WAIT_US	100
#define GMEM_LAST_WAIT_US	51200

/*
 * Each page is either shared, and then the VMM reaches it at mem, or private, and
 * then only the guest does.  Look at is_private before touching what a guest may
 * have made private: the VMM gets SIGBUS, and the kernel, in a system call on behalf
 * of the VMM, EFAULT.
 */
struct gmem_memory {
	int fd;			/* the guest_memfd */
	void *mem;		/* its mapping */
	__u64 gpa;		/* its guest physical address */
	__u64 size;
	bool *is_private;	/* for each page: KVM can't be asked, a VMM keeps a record */
};

struct gmem_request {
	__u64 gpa;
	__u64 nr_pages;
	bool private;
};

/* Returns the VM's file descriptor.  @type is e.g. KVM_X86_SNP_VM. */
static inline int gmem_create_vm(int kvm_fd, unsigned long type)
{
	struct kvm_enable_cap in_place = {
		.cap = KVM_CAP_GUEST_MEMFD_IN_PLACE,
		.args = { KVM_MEMORY_ATTRIBUTE_PRIVATE },
	};
	struct kvm_enable_cap hypercalls = {
		.cap = KVM_CAP_EXIT_HYPERCALL,
		.args = { 1 << KVM_HC_MAP_GPA_RANGE },
	};
	int vm_fd, ret;

	vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, type);
	if (vm_fd < 0)
		return -errno;

	/*
	 * A VM converts in place for life or never.  Ask now, as KVM says EBUSY once
	 * there is a vCPU, a memslot or a guest_memfd.  Where in-place conversion is
	 * the host's default, the VM has it already; on Linux 7.4, that is the only
	 * way to have it.
	 */
	if (ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_GUEST_MEMFD_MEMORY_ATTRIBUTES) <= 0 &&
	    ioctl(vm_fd, KVM_ENABLE_CAP, &in_place))
		goto fail;

	/* Have KVM hand over what guests ask for by KVM_HC_MAP_GPA_RANGE. */
	if (ioctl(vm_fd, KVM_ENABLE_CAP, &hypercalls))
		goto fail;

	return vm_fd;

fail:
	ret = -errno;
	close(vm_fd);
	return ret;
}

/* The memslot holds no reference to the guest_memfd: delete it first, or the VM. */
static inline void gmem_free_memory(struct gmem_memory *memory)
{
	if (memory->mem != MAP_FAILED)
		munmap(memory->mem, memory->size);
	free(memory->is_private);
	close(memory->fd);
}

/* Give a VM memory at @gpa, all of it shared. */
static inline int gmem_create_memory(struct gmem_memory *memory, int vm_fd, __u32 slot,
				     __u64 gpa, __u64 size)
{
	struct kvm_create_guest_memfd gmem = {
		.size = size,
		.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
	};
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = gpa,
		.memory_size = size,
	};
	int ret;

	memset(memory, 0, sizeof(*memory));
	memory->gpa = gpa;
	memory->size = size;
	memory->mem = MAP_FAILED;

	memory->fd = ioctl(vm_fd, KVM_CREATE_GUEST_MEMFD, &gmem);
	if (memory->fd < 0)
		return -errno;

	memory->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd, 0);
	memory->is_private = calloc(size / GMEM_PAGE_SIZE, sizeof(*memory->is_private));
	if (memory->mem == MAP_FAILED || !memory->is_private) {
		ret = -ENOMEM;
		goto fail;
	}

	/*
	 * The guest's private and shared pages both come from the guest_memfd.  What
	 * KVM itself reads and writes, e.g. when it emulates an instruction, comes
	 * from userspace_addr: have that be the same memory.
	 */
	region.userspace_addr = (unsigned long)memory->mem;
	region.guest_memfd = memory->fd;
	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION2, &region)) {
		ret = -errno;
		goto fail;
	}
	return 0;

fail:
	gmem_free_memory(memory);
	return ret;
}

/* Is it in this memory?  Guests ask for what they like; no sum here can wrap. */
static inline bool gmem_has_range(const struct gmem_memory *memory, __u64 gpa,
				  __u64 nr_pages)
{
	__u64 offset = gpa - memory->gpa;

	return nr_pages && gpa % GMEM_PAGE_SIZE == 0 && offset < memory->size &&
	       nr_pages <= (memory->size - offset) / GMEM_PAGE_SIZE;
}

/*
 * Convert @nr_pages at @gpa: all of them or, if it fails, none.
 *
 * Before memory becomes private, all of the VMM's own use of it has to end: start
 * no new I/O there, wait for what is in flight, unmap it for devices (VFIO,
 * iommufd, vhost), unregister it as a buffer (io_uring).  The mapping may stay.
 * Do not free anything afterwards: there is no other side, and MADV_REMOVE or
 * punching a hole would discard the very page that was converted.
 *
 * The errors are
 *   EAGAIN	somebody still has a reference to the page at *error_gpa, and could
 *		go on to read or write what is to be the guest's own.  References
 *		that pass by themselves have been waited for.
 *   EHWPOISON	the page at *error_gpa is broken.  It cannot become private until it
 *		is punched out, i.e. its contents are lost.
 *   ENOMEM	there is no memory to record the state, as of *error_gpa.
 *   EIO	only the process that created the VM may convert; or the VM is dead.
 *   EINVAL	this is no range of the memory.
 *
 * To shared, there is nobody to wait for: EAGAIN and EHWPOISON are for @private.
 */
static inline int gmem_convert(struct gmem_memory *memory, __u64 gpa, __u64 nr_pages,
			       bool private, __u64 *error_gpa)
{
	struct kvm_memory_attributes2 attrs = {
		.offset = gpa - memory->gpa,
		.size = nr_pages * GMEM_PAGE_SIZE,
		.attributes = private ? KVM_MEMORY_ATTRIBUTE_PRIVATE : 0,
	};
	unsigned int wait_us = GMEM_FIRST_WAIT_US;

	*error_gpa = gpa;
	if (!gmem_has_range(memory, gpa, nr_pages))
		return -EINVAL;

	/* The same struct serves again: error_offset is ignored on input. */
	while (ioctl(memory->fd, KVM_SET_MEMORY_ATTRIBUTES2, &attrs)) {
		int error = errno;

		/* Not for ever: the guest waits, and maybe nobody lets go. */
		if (error == EAGAIN && wait_us <= GMEM_LAST_WAIT_US) {
			usleep(wait_us);
			wait_us *= 2;
			continue;
		}
		if (error == EAGAIN || error == EHWPOISON || error == ENOMEM)
			*error_gpa = memory->gpa + attrs.error_offset;
		return -error;
	}

	memset(memory->is_private + (gpa - memory->gpa) / GMEM_PAGE_SIZE, private, nr_pages);
	return 0;
}

/* Run a vCPU until it exits. */
static inline int gmem_run_vcpu(int vcpu_fd, struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_UNKNOWN;
	if (!ioctl(vcpu_fd, KVM_RUN, NULL))
		return 0;

	/* An exit for a memory fault is an error of KVM_RUN as well. */
	if (errno == EFAULT && run->exit_reason == KVM_EXIT_MEMORY_FAULT)
		return 0;
	return -errno;
}

/*
 * Returns 1 if a vCPU exits because the guest asks for a conversion, 0 if it exits
 * for something else, and -EFAULT if no conversion can give the guest the page
 * that it has no access to.
 */
static inline int gmem_get_request(const struct gmem_memory *memory, const struct kvm_run *run,
				   struct gmem_request *request)
{
	switch (run->exit_reason) {
	case KVM_EXIT_HYPERCALL:
		if (run->hypercall.nr != KVM_HC_MAP_GPA_RANGE)
			return 0;
		request->gpa = run->hypercall.args[0];
		request->nr_pages = run->hypercall.args[1];
		request->private = run->hypercall.args[2] & KVM_MAP_GPA_RANGE_ENCRYPTED;
		return 1;
	case KVM_EXIT_MEMORY_FAULT:
		/*
		 * The access says what the guest wants, and the page's state differs.
		 * (The guest of a software-protected VM takes each page as it is.)
		 */
		request->gpa = run->memory_fault.gpa & ~(GMEM_PAGE_SIZE - 1);
		request->nr_pages = (run->memory_fault.size + GMEM_PAGE_SIZE - 1) / GMEM_PAGE_SIZE;
		request->private = run->memory_fault.flags & KVM_MEMORY_EXIT_FLAG_PRIVATE;

		/* If it doesn't differ, the guest would fault there again for ever. */
		if (gmem_has_range(memory, request->gpa, request->nr_pages) &&
		    memory->is_private[(request->gpa - memory->gpa) / GMEM_PAGE_SIZE] ==
		    request->private)
			return -EFAULT;
		return 1;
	default:
		return 0;
	}
}

/*
 * Tell the guest what has become of its request: @error is 0 or a negative errno.
 * If this returns an error, the guest can't be told, and can't go on.
 */
static inline int gmem_answer_request(struct kvm_run *run, int error)
{
	if (run->exit_reason != KVM_EXIT_HYPERCALL)
		return error;

	/* KVM takes no others.  EAGAIN invites the guest to ask again. */
	run->hypercall.ret = !error ? 0 : error == -EAGAIN ? EAGAIN : EINVAL;
	return 0;
}

#endif /* GMEM_MEMORY_H */
