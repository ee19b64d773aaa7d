/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __KVM_X86_GMEM_PROVE_H
#define __KVM_X86_GMEM_PROVE_H

#include <linux/kvm_host.h>

#ifdef CONFIG_KVM_PROVE_GMEM
static inline bool kvm_gmem_is_proven(struct kvm *kvm)
{
	return kvm->arch.vm_type == KVM_X86_SW_PROTECTED_VM &&
	       kvm_private_mem_in_place(kvm);
}

bool kvm_gmem_prove_is_prepared(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
				bool private);
int kvm_gmem_prove_make_private(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
				kvm_pfn_t nr_pages);
int kvm_gmem_prove_make_shared(kvm_pfn_t pfn, kvm_pfn_t nr_pages);
void kvm_gmem_prove_unmap(struct kvm *kvm, struct kvm_gfn_range *range);
void kvm_gmem_prove_create_vm_debugfs(struct kvm *kvm);
void kvm_gmem_prove_destroy_vm(struct kvm *kvm);
void kvm_gmem_prove_exit(void);
#else
static inline bool kvm_gmem_is_proven(struct kvm *kvm)
{
	return false;
}

static inline bool kvm_gmem_prove_is_prepared(struct kvm *kvm, gfn_t gfn,
					      kvm_pfn_t pfn, bool private)
{
	return true;
}

static inline int kvm_gmem_prove_make_private(struct kvm *kvm, gfn_t gfn,
					      kvm_pfn_t pfn, kvm_pfn_t nr_pages)
{
	return 0;
}

static inline int kvm_gmem_prove_make_shared(kvm_pfn_t pfn, kvm_pfn_t nr_pages)
{
	return 0;
}

static inline void kvm_gmem_prove_unmap(struct kvm *kvm, struct kvm_gfn_range *range) { }
static inline void kvm_gmem_prove_create_vm_debugfs(struct kvm *kvm) { }
static inline void kvm_gmem_prove_destroy_vm(struct kvm *kvm) { }
static inline void kvm_gmem_prove_exit(void) { }
#endif /* CONFIG_KVM_PROVE_GMEM */

#endif /* __KVM_X86_GMEM_PROVE_H */
