// SPDX-License-Identifier: GPL-2.0-only
/*
 * Enforce for software-protected VMs whose memory is converted in place what
 * hardware enforces for others: record which page belongs to which guest, as SNP's
 * Reverse Map Table does, and take these pages out of the kernel's direct map, so
 * that the host can't access them.  Without this, it has no effect if KVM forgets
 * to tell the architecture that a page has become private or shared.
 *
 * Unlike the RMP, allow a page to move to another gfn.  Userspace can bind a
 * guest_memfd elsewhere at any time.  Hardware then refuses the guest's accesses,
 * which isn't an error of KVM's.
 *
 * Hardware isn't supposed to fail, and may.  A page can be told to do so, see
 * gmem_refuse_write().
 */
#include <linux/debugfs.h>
#include <linux/highmem.h>
#include <linux/pagemap.h>
#include <linux/set_memory.h>
#include <linux/smp.h>
#include <linux/xarray.h>

#include <asm/tlbflush.h>

#include "gmem_prove.h"

/* What a page of a guest's doesn't let KVM do. */
enum gmem_refusal {
	GMEM_REFUSES_NOTHING,
	/* To give it back to the host, as if RMPUPDATE failed. */
	GMEM_REFUSES_RECLAIM,
	/* Nor even to unmap it, as if TDH.MEM.PAGE.REMOVE failed. */
	GMEM_REFUSES_UNMAP,
	NR_GMEM_REFUSALS,
};

struct gmem_owner {
	/* NULL if the VM is gone, its memory is freed with the guest_memfd. */
	struct kvm *kvm;
	gfn_t gfn;
	enum gmem_refusal refusal;
	struct rcu_head rcu;
};

/*
 * The pages that belong to a guest, by pfn.  Ownership changes with gmem_lock
 * held.  It's taken while nobody else changes the page, which is what
 * keeps the owner of that guest_memfd's pages stable, except for pages that are
 * freed along with the inode, at which point nobody else can get to them.
 */
static DEFINE_XARRAY(gmem_owners);
static DEFINE_MUTEX(gmem_lock);

/* Is there, or has there been, a page that can't be unmapped? */
static bool gmem_has_unmap_refusals;

static void gmem_flush_tlb(void *unused)
{
	__flush_tlb_all();
}

/* Is the page of @pfn bound to @gfn?  Its guest_memfd's bindings are stable. */
static bool gmem_is_bound(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn)
{
	struct kvm_memory_slot *slot = gfn_to_memslot(kvm, gfn);
	struct folio *folio = pfn_folio(pfn);

	return kvm_slot_has_gmem(slot) &&
	       rcu_access_pointer(slot->gmem.inode) == folio->mapping->host &&
	       gfn - slot->base_gfn + slot->gmem.pgoff == folio->index;
}

/* Anything else is for kvm_gmem_get_pfn(), which has a closer look, under locks. */
bool kvm_gmem_prove_is_prepared(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn, bool private)
{
	struct gmem_owner *owner;

	guard(rcu)();

	owner = xa_load(&gmem_owners, pfn);
	if (!private)
		return !owner;

	return owner && READ_ONCE(owner->kvm) == kvm && READ_ONCE(owner->gfn) == gfn;
}

/* As on hardware, a page may be faulted in any number of times. */
int kvm_gmem_prove_make_private(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
				kvm_pfn_t nr_pages)
{
	struct gmem_owner *owner;
	int r;

	if (WARN_ON_ONCE(nr_pages != 1))
		return -EIO;

	guard(mutex)(&gmem_lock);

	owner = xa_load(&gmem_owners, pfn);
	if (owner) {
		if (WARN_ONCE(owner->kvm != kvm,
			      "pfn 0x%llx is another VM's, at gfn 0x%llx\n",
			      pfn, owner->gfn))
			return -EIO;

		if (WARN_ONCE(owner->gfn != gfn && gmem_is_bound(kvm, owner->gfn, pfn),
			      "pfn 0x%llx is at gfn 0x%llx and at gfn 0x%llx\n",
			      pfn, owner->gfn, gfn))
			return -EIO;

		WRITE_ONCE(owner->gfn, gfn);
		return 0;
	}

	WARN_ONCE(folio_mapped(pfn_folio(pfn)),
		  "pfn 0x%llx, now private, is mapped by the host\n", pfn);

	owner = kmalloc_obj(*owner);
	if (!owner)
		return -ENOMEM;

	owner->kvm = kvm;
	owner->gfn = gfn;
	owner->refusal = GMEM_REFUSES_NOTHING;

	r = xa_err(xa_store(&gmem_owners, pfn, owner, GFP_KERNEL));
	if (r)
		goto err_free;

	r = set_direct_map_valid_noflush(pfn_to_page(pfn), 1, false);
	if (r)
		goto err_erase;

	on_each_cpu(gmem_flush_tlb, NULL, true);

	kvm->stat.gmem_pages_made_private++;
	return 0;

err_erase:
	xa_erase(&gmem_owners, pfn);
err_free:
	kfree(owner);
	return r;
}

/* Pages that the guest hasn't touched since they are private aren't owned. */
int kvm_gmem_prove_make_shared(kvm_pfn_t pfn, kvm_pfn_t nr_pages)
{
	struct gmem_owner *owner;
	kvm_pfn_t end;

	guard(mutex)(&gmem_lock);

	for (end = pfn + nr_pages; pfn < end; pfn++) {
		owner = xa_load(&gmem_owners, pfn);
		if (!owner)
			continue;

		if (owner->refusal)
			return -EIO;

		xa_erase(&gmem_owners, pfn);

		/* A page that isn't mapped has a PTE, there's nothing to allocate. */
		WARN_ONCE(set_direct_map_valid_noflush(pfn_to_page(pfn), 1, true),
			  "pfn 0x%llx is lost to the host\n", pfn);

		if (owner->kvm)
			owner->kvm->stat.gmem_pages_made_shared++;

		kfree_rcu(owner, rcu);
	}

	return 0;
}

/* Fail as TDX does, of which KVM learns only that the VM is beyond repair. */
void kvm_gmem_prove_unmap(struct kvm *kvm, struct kvm_gfn_range *range)
{
	struct gmem_owner *owner;
	unsigned long pfn;
	gfn_t gfn;

	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!READ_ONCE(gmem_has_unmap_refusals) ||
	    !(range->attr_filter & KVM_FILTER_PRIVATE))
		return;

	guard(rcu)();

	xa_for_each(&gmem_owners, pfn, owner) {
		gfn = READ_ONCE(owner->gfn);
		if (READ_ONCE(owner->kvm) == kvm &&
		    READ_ONCE(owner->refusal) == GMEM_REFUSES_UNMAP &&
		    gfn >= range->start && gfn < range->end) {
			kvm_vm_bugged(kvm);
			return;
		}
	}
}

void kvm_arch_gmem_assert_shared(kvm_pfn_t pfn)
{
	WARN_ONCE(xa_load(&gmem_owners, pfn),
		  "pfn 0x%llx, now shared, is still a guest's\n", pfn);
}

/* What SNP_LAUNCH_UPDATE does, minus the encryption. */
static int gmem_post_populate(struct kvm *kvm, gfn_t gfn, kvm_pfn_t pfn,
			      struct page *src_page, void *opaque)
{
	if (xa_load(&gmem_owners, pfn))
		return -EEXIST;

	if (src_page)
		copy_highpage(pfn_to_page(pfn), src_page);

	if (!kvm_gmem_is_proven(kvm))
		return 0;

	return kvm_gmem_prove_make_private(kvm, gfn, pfn, 1);
}

/*
 * Software-protected VMs have no use for populating memory, but can stand in
 * for those that do.  "gpa uaddr npages", in hex, has the rules of the sources
 * and of the errors of KVM_SEV_SNP_LAUNCH_UPDATE and KVM_TDX_INIT_MEM_REGION.
 * If not even the first page can be populated, the write fails; otherwise,
 * gmem_pages_made_private tells how many pages were.
 */
static ssize_t gmem_populate_write(struct file *file, const char __user *ubuf,
				   size_t count, loff_t *ppos)
{
	struct kvm *kvm = file->private_data;
	u64 gpa, uaddr, npages;
	char buf[64] = { };
	long r;

	/* The source is an address of the caller's. */
	if (kvm->mm != current->mm || kvm->vm_dead)
		return -EIO;

	if (count >= sizeof(buf))
		return -EINVAL;
	if (copy_from_user(buf, ubuf, count))
		return -EFAULT;

	if (sscanf(buf, "%llx %llx %llx", &gpa, &uaddr, &npages) != 3)
		return -EINVAL;
	if (!PAGE_ALIGNED(gpa) || !PAGE_ALIGNED(uaddr) ||
	    !npages || npages > KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;

	guard(mutex)(&kvm->slots_lock);

	if (!uaddr && !kvm_private_mem_in_place(kvm))
		return -EINVAL;

	r = kvm_gmem_populate(kvm, gpa_to_gfn(gpa), u64_to_user_ptr(uaddr), npages,
			      false, gmem_post_populate, NULL);

	return r < 0 ? r : count;
}

static int gmem_vm_open(struct inode *inode, struct file *file)
{
	struct kvm *kvm = inode->i_private;

	if (!kvm_get_kvm_safe(kvm))
		return -ENOENT;

	file->private_data = kvm;
	return nonseekable_open(inode, file);
}

static int gmem_vm_release(struct inode *inode, struct file *file)
{
	kvm_put_kvm(file->private_data);
	return 0;
}

static const struct file_operations gmem_populate_fops = {
	.owner		= THIS_MODULE,
	.open		= gmem_vm_open,
	.write		= gmem_populate_write,
	.release	= gmem_vm_release,
};

/*
 * "gpa npages refusal", in hex: have pages that belong to the guest refuse what
 * enum gmem_refusal says, from now on and, if need be, beyond the VM's end.
 */
static ssize_t gmem_refuse_write(struct file *file, const char __user *ubuf,
				 size_t count, loff_t *ppos)
{
	struct kvm *kvm = file->private_data;
	struct gmem_owner *owner;
	u64 gpa, npages, refusal;
	char buf[64] = { };
	unsigned long pfn;
	u64 nr = 0;

	if (count >= sizeof(buf))
		return -EINVAL;
	if (copy_from_user(buf, ubuf, count))
		return -EFAULT;

	if (sscanf(buf, "%llx %llx %llx", &gpa, &npages, &refusal) != 3)
		return -EINVAL;
	if (!PAGE_ALIGNED(gpa) || refusal >= NR_GMEM_REFUSALS)
		return -EINVAL;

	guard(mutex)(&gmem_lock);

	if (refusal == GMEM_REFUSES_UNMAP)
		WRITE_ONCE(gmem_has_unmap_refusals, true);

	xa_for_each(&gmem_owners, pfn, owner) {
		if (owner->kvm == kvm && owner->gfn - gpa_to_gfn(gpa) < npages) {
			WRITE_ONCE(owner->refusal, refusal);
			nr++;
		}
	}

	return nr == npages ? count : -ENOENT;
}

static const struct file_operations gmem_refuse_fops = {
	.owner		= THIS_MODULE,
	.open		= gmem_vm_open,
	.write		= gmem_refuse_write,
	.release	= gmem_vm_release,
};

void kvm_gmem_prove_create_vm_debugfs(struct kvm *kvm)
{
	if (kvm->arch.vm_type != KVM_X86_SW_PROTECTED_VM)
		return;

	debugfs_create_file("gmem_populate", 0200, kvm->debugfs_dentry, kvm,
			    &gmem_populate_fops);
	debugfs_create_file("gmem_refuse", 0200, kvm->debugfs_dentry, kvm,
			    &gmem_refuse_fops);
}

/* The VM may be gone before the last of its pages is, see kvm_gmem_release(). */
void kvm_gmem_prove_destroy_vm(struct kvm *kvm)
{
	struct gmem_owner *owner;
	unsigned long pfn;

	guard(mutex)(&gmem_lock);

	xa_for_each(&gmem_owners, pfn, owner) {
		if (owner->kvm == kvm)
			WRITE_ONCE(owner->kvm, NULL);
	}
}

void kvm_gmem_prove_exit(void)
{
	struct gmem_owner *owner;
	unsigned long pfn;

	/* What has refused to be given back is leaked, and stays inaccessible. */
	xa_for_each(&gmem_owners, pfn, owner) {
		if (owner->refusal) {
			xa_erase(&gmem_owners, pfn);
			kfree(owner);
		}
	}

	WARN(!xa_empty(&gmem_owners), "guest_memfd pages were not given back\n");
}
