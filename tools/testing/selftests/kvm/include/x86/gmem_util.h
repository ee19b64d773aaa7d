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

/* Long and short ranges of private pages, at the start and at the end as well. */
#define MIXED		(pages(0, 1) | pages(3, 5) | pages(20, 20) | pages(41, 1) | pages(60, 4))

/* The value of error_offset before a call, and after it if KVM doesn't write it. */
#define NO_ERROR_OFFSET	0xdeadbeefcafe5a5aul

extern const struct vm_shape in_place_shape;

/* The same VM if it doesn't ask for in-place mode: what it gets is the default. */
extern const struct vm_shape default_mode_shape;

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

/* In another mode, it is gmem->mem that the guest's shared memory is in. */
void __gmem_vm_create(struct gmem_vm *gmem, const struct vm_shape shape, u64 flags);
void gmem_vm_create(struct gmem_vm *gmem, u64 flags);
void gmem_vm_free(struct gmem_vm *gmem);

/*
 * A VM with @nr vCPUs and without that memory.  The guest_*() functions below are
 * for any of them, but the guest has one set of variables for its commands.
 */
struct kvm_vm *gmem_vm_create_with_vcpus(struct vm_shape shape, int nr,
					 struct kvm_vcpu *vcpus[]);

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

/* Verify the state MIXED, and what the host can see of pages that were filled before. */
void check_mixed(u8 *mem, int generation);

/*
 * How many faults it takes the host to read the pages.  A fault maps neighbors that
 * are there and shared as well.
 */
long host_faults(u8 *mem, int first, int nr);

/* How many of all pages the host has mapped. */
int host_mappings(u8 *mem);

/* Same for the guest, at any GVA and for the pages at GMEM_GPA. */
u64 guest_read(struct kvm_vcpu *vcpu, gva_t gva);
void __guest_fill(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation);
void __guest_check(struct kvm_vcpu *vcpu, gva_t gva, int first, int nr, int generation);
void guest_fill(struct kvm_vcpu *vcpu, int first, int nr, int generation);
void guest_check(struct kvm_vcpu *vcpu, int first, int nr, int generation);
u64 guest_faults(struct kvm_vcpu *vcpu, int first, int nr);

/* How many pages the guest has mapped, wherever they are. */
u64 guest_mappings(struct kvm_vcpu *vcpu);

/*
 * Have the guest read what may not be there to be read.  Returns the errno; if it
 * isn't 0, the guest goes on with that read, i.e. guest_read() has to be next.
 */
int try_guest_read(struct kvm_vcpu *vcpu, gva_t gva);

/* Have the guest read @gva as of the next KVM_RUN, which is up to the caller. */
void guest_read_begin(struct kvm_vcpu *vcpu, gva_t gva);

/* Have the guest read @gpa and verify that it's MMIO. */
void guest_read_mmio(struct kvm_vcpu *vcpu, gpa_t gpa);

/*
 * KVM_RUN that doesn't go on for ever, e.g. because a vCPU spins in the kernel.
 * Returns the errno, EINTR if it took longer than RUN_SECONDS.
 */
#define RUN_SECONDS	5
int vcpu_run_limited(struct kvm_vcpu *vcpu);

/*
 * The same for a guest that reads @gva.  If it's not 0 that is returned, the guest
 * doesn't go on with that read, i.e. any command can be next.
 */
int guest_read_limited(struct kvm_vcpu *vcpu, gva_t gva);

/*
 * Have the guest read @gva, and verify that KVM_RUN fails, at once, because the
 * guest_memfd that was at @gpa is closed.
 */
void __guest_read_closed(struct kvm_vcpu *vcpu, gva_t gva, gpa_t gpa);
void guest_read_closed(struct kvm_vcpu *vcpu, gpa_t gpa);

/*
 * Have the guest touch the first pages at GMEM_GPA over and over again, in a
 * thread of its own, until it's stopped.
 */
#define NR_SPIN_PAGES	16
pthread_t guest_spin_start(struct kvm_vcpu *vcpu);
u64 guest_spin_laps(struct kvm_vm *vm);
void guest_spin_stop(struct kvm_vm *vm, pthread_t thread);

/* The same, at any GVA, as of the next KVM_RUN, which is up to the caller. */
void guest_spin_begin(struct kvm_vcpu *vcpu, gva_t gva);
void guest_spin_end(struct kvm_vm *vm);

/*
 * Have @nr pages of a guest_memfd, from @first on, at @gpa.  Other than with
 * vm_mem_add(), nothing but the memslot refers to the guest_memfd.  Returns the
 * errno.
 */
int gmem_add_slot(struct kvm_vm *vm, u32 slot, gpa_t gpa, u64 nr, int fd, u64 first);
void gmem_delete_slot(struct kvm_vm *vm, u32 slot);

/*
 * Populate @nr pages from @src or, if it's NULL, in place.  Returns the errno.
 * open_populate() returns -1 if the kernel has no CONFIG_KVM_PROVE_GMEM.
 */
int open_populate(struct kvm_vm *vm);
int __populate(int populate_fd, gpa_t gpa, void *src, int nr);
int populate(int populate_fd, int page, void *src, int nr);

/* How many pages of a guest_memfd, mapped at @mem, exist. */
u64 nr_allocated(int fd, void *mem, size_t size);

/*
 * How many objects of a slab cache are in use.  Free objects that CPUs have put
 * aside don't count.  Needs CONFIG_SLUB_DEBUG, sysfs and root.
 */
bool has_slab_objects(const char *cache);
u64 slab_objects(const char *cache);

/* What /proc/meminfo has for @name, including what CPUs haven't added up yet. */
u64 meminfo_kb(const char *name);

/*
 * Memory is given back after an RCU grace period, in the kernel's own time: wait
 * for grace periods until @count() is down to @limit or it's clear that it won't
 * be.  Returns the last count.
 */
u64 settled(u64 (*count)(void), u64 limit);

/* A CPU that the test may run on, other than @not_this, or -1. */
int other_cpu(int not_this);

/* Fill free pages of the kernel with data, to see if it leaks. */
void dirty_free_pages(void);

/*
 * Poison a page, which the host must have mapped, and take the SIGBUS for it.
 * Returns the errno.
 */
int poison_page(void *mem);

/* The host's memory, seen and managed from outside. */
#define MEMORY_PATH	"/sys/devices/system/memory/"
#define HWPOISON_PATH	"/sys/kernel/debug/hwpoison/"

/* Returns the errno of writing to a file that has to be there. */
int __printf(2, 3) write_path(const char *path, const char *fmt, ...);

/* The number in a file that has to be there or, unless @key is NULL, behind @key. */
u64 read_path(const char *path, const char *key, int base);

/* A process that doesn't outlive the test, should that fail. */
pid_t fork_child(void);

/* Pass a file descriptor on.  receive_fd() returns -1 if all who could send have died. */
void send_fd(int sock, int fd);
int receive_fd(int sock);

/* Where a mapped page is.  try_mapped_pfn() returns 0 if no page is mapped. */
u64 try_mapped_pfn(void *mem);
u64 mapped_pfn(void *mem);

/* The page's KPF_* flags. */
u64 pfn_flags(u64 pfn);

/*
 * Take a block of memory out of use, and back into it.  Returns the errno, which is
 * EINTR if that goes on and on.
 */
int try_offline(u64 block);
u64 pages_per_block(void);

/*
 * Poison a page, whoever has it, and give it back when it has been punched out, so
 * that the machine doesn't run out of them.
 */
int corrupt_pfn(u64 pfn);
void unpoison_pfn(u64 pfn);

/*
 * A long-term pin by the kernel's gup_test.  gup_test_open() returns -1 if there
 * is none, gup_test_pin() an errno; gup_test_read() reads what is pinned.
 */
int gup_test_open(void);
int gup_test_pin(int gup_fd, void *mem, size_t size);
void gup_test_read(int gup_fd, void *buf);
void gup_test_unpin(int gup_fd);

/* Have a pipe hold a reference, which doesn't count as a pin. */
ssize_t splice_page(int pipe_fds[2], void *mem);
void unsplice_page(int pipe_fds[2], void *buf);

#endif /* SELFTEST_KVM_GMEM_UTIL_H */
