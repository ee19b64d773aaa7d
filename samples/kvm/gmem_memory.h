/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Guest memory that is converted in place: the part of a VMM that deals with it
 *
 * This file and gmem_memory.c are meant to be copied.  All that they need is a
 * kernel's headers; they print nothing, never exit, and keep no state but what is
 * in struct gmem_memory.
 *
 * A VMM calls, in this order:
 *
 *   gmem_create_vm()		a VM that has its memory converted in place
 *   gmem_create_memory()	one guest_memfd, mapped once; fill it through ->mem
 *   gmem_set_private()		make private what the guest is to start with
 *
 * and then, for each vCPU and over and over again:
 *
 *   gmem_run_vcpu()		KVM_RUN
 *   gmem_get_request()		does the guest ask for a conversion?
 *   gmem_set_private()		do it
 *   gmem_answer_request()	tell the guest
 *
 * Functions that return an int return a negative errno if they fail.
 */
#ifndef GMEM_MEMORY_H
#define GMEM_MEMORY_H

#include <linux/kvm.h>
#include <stdbool.h>

#define GMEM_PAGE_SIZE	4096ULL

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

int gmem_create_vm(int kvm_fd, unsigned long type);
int gmem_create_memory(struct gmem_memory *memory, int vm_fd, __u32 slot, __u64 gpa, __u64 size);
void gmem_free_memory(struct gmem_memory *memory);
int gmem_set_private(struct gmem_memory *memory, __u64 gpa, __u64 nr_pages, bool private,
		     __u64 *error_gpa);

int gmem_run_vcpu(int vcpu_fd, struct kvm_run *run);
int gmem_get_request(const struct gmem_memory *memory, const struct kvm_run *run,
		     struct gmem_request *request);
int gmem_answer_request(struct kvm_run *run, int error);

#endif /* GMEM_MEMORY_H */
