/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What most tests of in-place conversion start from: a VM with one vCPU and a
 * guest_memfd, once with memory that starts out private and once with memory
 * that starts out shared.
 */
#ifndef SELFTEST_KVM_GMEM_FIXTURE_H
#define SELFTEST_KVM_GMEM_FIXTURE_H

#include "gmem_util.h"
#include "kvm_test_harness.h"

FIXTURE(gmem) {
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	u8 *mem;
	int fd;
};

FIXTURE_VARIANT(gmem) {
	u64 flags;
	u64 init_state;
};

FIXTURE_VARIANT_ADD(gmem, init_private) {
	.flags = GUEST_MEMFD_FLAG_MMAP,
	.init_state = ALL_PAGES,
};

FIXTURE_VARIANT_ADD(gmem, init_shared) {
	.flags = GUEST_MEMFD_FLAG_MMAP | GUEST_MEMFD_FLAG_INIT_SHARED,
	.init_state = 0,
};

FIXTURE_SETUP(gmem)
{
	struct gmem_vm gmem;

	gmem_vm_create(&gmem, variant->flags);
	self->vcpu = gmem.vcpu;
	self->vm = gmem.vm;
	self->mem = gmem.mem;
	self->fd = gmem.fd;
}

FIXTURE_TEARDOWN(gmem)
{
	kvm_close(self->fd);
	kvm_vm_free(self->vm);
}

#endif /* SELFTEST_KVM_GMEM_FIXTURE_H */
