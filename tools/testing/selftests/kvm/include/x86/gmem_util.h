/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tests of in-place conversion have in common: a software-protected VM with
 * a small guest_memfd whose pages' states fit into a u64, and a guest that fills
 * and checks them.
 *
 * A guest of a software-protected VM can't say whether it wants private or
 * shared memory: it always gets the page as it is.  So what is private and what
 * is shared is observed from the host, which may only touch what is shared.
 *
 * The clauses that the tests' comments name, e.g. C9, are those of
 * Documentation/virt/kvm/guest_memfd.rst.
 */
#ifndef SELFTEST_KVM_GMEM_UTIL_H
#define SELFTEST_KVM_GMEM_UTIL_H

#include <linux/bits.h>
#include <linux/sizes.h>

#include "kvm_util.h"
#include "processor.h"

#define GMEM_PARAM_PATH	"/sys/module/kvm/parameters/gmem_in_place_conversion"

#define GMEM_FLAGS	(GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED)
#define PRIVATE		KVM_MEMORY_ATTRIBUTE_PRIVATE

/* One bit for each page, so that the state of a guest_memfd fits into a u64. */
#define NR_PAGES	64
#define GMEM_SIZE	((u64)NR_PAGES * PAGE_SIZE)
#define GMEM_SLOT	10
#define GMEM_GPA	((gpa_t)SZ_4G)

/* For tests that need a second memslot; GVAs are GPAs. */
#define GMEM_SLOT2	(GMEM_SLOT + 1)
#define GMEM_GPA2	(GMEM_GPA + SZ_2M)

#define ALL_PAGES	(~0ul)

static inline u64 pages(int first, int nr)
{
	return GENMASK_ULL(first + nr - 1, first);
}

/* Some of everything: long and short ranges, at the start and at the end. */
#define MIXED		(pages(0, 1) | pages(3, 5) | pages(20, 20) | pages(41, 1) | pages(60, 4))

/* What must come back if KVM has nothing to report. */
#define NO_ERROR_OFFSET	0xdeadbeefcafe5a5aul

extern const struct vm_shape in_place_shape;

/* Skip the test if there's no such VM, for those that have children create it. */
void require_in_place_vm(void);

#define WORDS_PER_PAGE	(PAGE_SIZE / sizeof(u64))

/* All words of a page have a value of their own, which changes with generation. */
static inline u64 page_val(int page, int generation)
{
	return 0x0101010101010101ul * (page + 1) + generation;
}

static inline u8 *page_hva(u8 *mem, int page)
{
	return mem + page * PAGE_SIZE;
}

static inline gpa_t page_gpa(int page)
{
	return GMEM_GPA + page * PAGE_SIZE;
}

/*
 * Give @vm a guest_memfd of GMEM_SIZE at GMEM_GPA, mapped there by the guest, as
 * is GMEM_GPA2.  Returns its fd.
 */
int gmem_vm_add_memory(struct kvm_vm *vm, u64 flags);

/* A VM with one vCPU, and that memory. */
struct gmem_vm {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
};

void gmem_vm_create(struct gmem_vm *gmem, u64 flags);
void gmem_vm_free(struct gmem_vm *gmem);

/* Whether VMs are in in-place mode without asking for it. */
bool in_place_is_default(void);

/* The raw ioctl.  Returns the errno. */
int set_attributes(int fd, struct kvm_memory_attributes2 *attr);

/* Convert pages, and fail the test if that fails. */
void to_private(int fd, int first, int nr);
void to_shared(int fd, int first, int nr);

/* Returns the errno and, in pages, where the conversion failed. */
int try_private(int fd, int first, int nr, u64 *error_page);

/*
 * Retry for as long as pages are in use, but not for ever.  Returns the number of
 * retries.
 */
#define RETRY_SECONDS	10
u64 retry_private(int fd, int first, int nr);

/* Make the pages private whose bits are set in @state, and the others shared. */
void set_state(int fd, u64 state);

/* Verify that exactly the pages of @state are private.  Allocates the others. */
void check_state(u8 *mem, u64 state);

/* Set all words of pages to page_val(), and look at them again. */
u64 host_read(u8 *mem, int page);
void host_fill(u8 *mem, int first, int nr, int generation);
void host_check(u8 *mem, int first, int nr, int generation);

/* How many pages the host has to fault in to read all of them. */
long host_faults(u8 *mem, int first, int nr);

/* Same for the guest, at any GVA and for the pages at GMEM_GPA. */
u64 guest_read(struct kvm_vcpu *vcpu, gva_t gva);
void __guest_fill(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation);
void __guest_check(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation);
void guest_fill(struct kvm_vcpu *vcpu, int first, int nr, int generation);
void guest_check(struct kvm_vcpu *vcpu, int first, int nr, int generation);
u64 guest_faults(struct kvm_vcpu *vcpu, int first, int nr);

/*
 * Have the guest read what may not be there to be read.  Returns the errno; if it
 * isn't 0, the guest goes on with that read, i.e. guest_read() has to be next.
 */
int try_guest_read(struct kvm_vcpu *vcpu, gva_t gva);

/* Have the guest read @gpa and verify that nothing is there for it. */
void guest_read_mmio(struct kvm_vcpu *vcpu, gpa_t gpa);

/*
 * Have the guest touch the first pages at GMEM_GPA over and over again, in a
 * thread of its own, until it's stopped.
 */
#define NR_SPIN_PAGES	16
pthread_t guest_spin_start(struct kvm_vcpu *vcpu);
u64 guest_spin_laps(struct kvm_vm *vm);
void guest_spin_stop(struct kvm_vm *vm, pthread_t thread);

/*
 * Have @nr pages of a guest_memfd, from @first on, at @gpa.  Other than with
 * vm_mem_add(), nothing but the memslot refers to the guest_memfd.  Returns the
 * errno.
 */
int gmem_add_slot(struct kvm_vm *vm, u32 slot, gpa_t gpa, u64 nr, int fd, u64 first);
void gmem_delete_slot(struct kvm_vm *vm, u32 slot);

/* How many pages of a guest_memfd, mapped at @mem, exist. */
u64 nr_allocated(int fd, void *mem, size_t size);

/*
 * How many objects of a slab cache are in use.  Free objects that CPUs have put
 * aside don't count.  Needs CONFIG_SLUB_DEBUG, sysfs and root.
 */
bool has_slab_objects(const char *cache);
u64 slab_objects(const char *cache);

/*
 * Memory is given back after an RCU grace period, in the kernel's own time: wait
 * for grace periods until @count() is down to @limit or it's clear that it won't
 * be.  Returns the last count.
 */
u64 settled(u64 (*count)(void), u64 limit);

/* Have the kernel's free pages be something that must not be seen. */
void dirty_free_pages(void);

/*
 * Poison a page, which the host must have mapped, and take the SIGBUS for it.
 * Returns the errno.
 */
int poison_page(void *mem);

/*
 * A long-term pin by the kernel's gup_test.  gup_test_open() returns -1 if there
 * is none, gup_test_pin() an errno; gup_test_read() reads what is pinned.
 */
int gup_test_open(void);
int gup_test_pin(int gup_fd, void *mem, size_t size);
void gup_test_read(int gup_fd, void *buf);
void gup_test_unpin(int gup_fd);

/* Have a pipe hold a reference, which unlike a pin is just a reference. */
ssize_t splice_page(int pipe_fds[2], void *mem);
void unsplice_page(int pipe_fds[2], void *buf);

#endif /* SELFTEST_KVM_GMEM_UTIL_H */
