/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A model of how guest_memfd converts memory in place, for spin: one page, all who want it, and any number of conversions,
 * holes, faults and pins, in every order.  lab/docs/model.md says what it shows and what it leaves out.
 *
 * A line, or what is in atomic {}, is a step: between two steps comes whoever wants.  Its comment says which function of the
 * kernel does that, and is what make model STEP=... prints.  with() is around what -DWITHOUT= leaves out.
 *
 * What has to hold is the name of an assert:
 *
 *	LEAK	the host doesn't reach a page that is private, be it by a PTE, a TLB entry or a pin
 *	STATE	the guest has no shared page mapped as private, nor a private one as shared, and hardware agrees about whose it is
 *	DATA	who reads finds what was stored last, or zeroes where nothing was or it was punched out; nobody reaches memory that
 *		isn't the file's any more, nor freed memory of the tree of attributes
 *	BUSY	EAGAIN means that somebody uses the page, or was about to: never that there was a fault or a mapping
 *
 * And spin looks for STUCK: what has begun comes to its end when nothing new begins.
 */
#define LEAK(c)		assert(c)
#define STATE(c)	assert(c)
#define DATA(c)		assert(c)
#define BUSY(c)		assert(c)

#ifndef WITHOUT
#define WITHOUT nothing
#endif
#define with(step)	(WITHOUT != step)

/* The steps that can be left out, and what breaks first without one. */
mtype = {
	nothing,
	mutex,		/* LEAK: change_lock is held for all of a change */
	publish_lock,	/* LEAK: a change publishes its range when nobody holds invalidate_lock */
	host_lock,	/* LEAK: a host fault holds invalidate_lock until it has a reference */
	host_wait,	/* LEAK: a host fault waits while the page is being changed */
	host_clear,	/* DATA: a host fault clears what isn't up to date */
	host_folio,	/* BUSY: a host fault keeps the folio locked until it is mapped */
	ref_wait,	/* BUSY: a conversion waits for who has the folio locked */
	host_unmap,	/* BUSY: a conversion unmaps the folio from the host */
	ref_check,	/* LEAK: a conversion looks for other references */
	ref_exact,	/* LEAK: a mapping's reference is one like any other */
	ref_last,	/* LEAK: a conversion looks for references after it has unmapped the folio, not before */
	gup_recheck,	/* LEAK: GUP looks at the PTE again when it has a reference */
	guest_sample,	/* STATE: a guest fault samples mmu_invalidate_seq before it looks up the state */
	guest_seq,	/* STATE: a guest fault looks under mmu_lock whether mmu_invalidate_seq has moved */
	guest_progress,	/* STATE: a guest fault looks under mmu_lock whether an invalidation is in progress */
	guest_uptodate,	/* DATA: the lookup without locks doesn't find what isn't up to date */
	guest_prepared,	/* STATE: the lookup without locks doesn't find what hardware hasn't given to the guest */
	guest_lock,	/* BUSY: kvm_gmem_get_pfn() holds invalidate_lock */
	guest_wait,	/* BUSY: kvm_gmem_get_pfn() waits while the page is being changed */
	guest_put,	/* BUSY: kvm_gmem_get_pfn() drops its reference */
	around,		/* STATE: mapping around a guest fault looks whether an invalidation is in progress */
	start,		/* STATE: a conversion invalidates the page in KVM's MMU */
	start_unmap,	/* STATE: an invalidation unmaps the page from the guest */
	start_flush,	/* STATE: an invalidation flushes the guest's TLB */
	start_first,	/* STATE: an invalidation starts before the commit */
	end_last,	/* STATE: an invalidation ends after the commit */
	end_seq,	/* STATE: an invalidation moves mmu_invalidate_seq */
	reclaim,	/* STATE: hardware gives back what becomes shared */
	hole_start,	/* DATA: punching a hole invalidates the page in KVM's MMU */
	rcu,		/* DATA: what a lookup of the state may be reading isn't freed */
	wake,		/* STUCK: the end of a change wakes who waits for it */
	end_progress,	/* STUCK: the end of an invalidation ends it */
	no_user_memory,	/* STUCK: a change doesn't touch user memory */

	/* What the kernel does for other reasons. */
	hole_publish,	/* nothing: punching a hole publishes its range */
	wait_mmap	/* nothing: a host fault releases mmap_lock to wait, if it can be retried */
};

mtype = { JUNK, ZERO, STORED };
#define NONE	0		/* no frame; frames are 1 and 2 */
#define VMM	0
#define VCPU	1

/* The page: its state, and its frame in the page cache. */
bool private;
byte page;
mtype last = ZERO;		/* what a load has to find */

/* Frames.  Hardware (the RMP, the S-EPT) knows which are a guest's. */
byte refs[3];
bool locked[3], uptodate[3], guests[3];
mtype data[3] = JUNK;

/* The PTE, the SPTE, what TLBs have of them, and what the VMM has pinned. */
byte pte, tlb, pinned, spte, gtlb;

/* Locks.  Who waits to write keeps new readers out.  mmu_lock is held for writing within a step only. */
bool change_lock, inv_writer, mmap_writer;
byte inv_readers, mmap_readers, mmu_readers;

bool changing;			/* gi->changing has the page in it, */
bool asleep[2];			/* and on gi->changing_wait is who wants it */
byte in_progress;		/* kvm->mmu_invalidate_in_progress */
bool moved = true;		/* kvm->mmu_invalidate_seq isn't (or no longer) what the guest's fault has sampled */
byte held[2];			/* the frame that a fault has a reference to */
bool looking, freed;		/* a lookup has a pointer into the tree, to what has been freed */
bool quiet;			/* nothing new begins */

/* --- what several do ------------------------------------------------------------------------------------------------- */

inline put(f)
{
	refs[f]--;
	if
	:: !refs[f] -> data[f] = JUNK; uptodate[f] = false
	:: else
	fi;
	f = NONE
}

inline get_folio(f)
{
	do
	:: atomic { !page && !(refs[1] && refs[2]) -> f = (refs[1] -> 2 : 1);	/* kvm_gmem_get_folio(): add a folio, locked and referenced */
		page = f; refs[f] = 2; locked[f] = true; break }
	:: atomic { page -> f = page; refs[f]++ };		/* kvm_gmem_get_folio(): find the folio, get a reference */
		atomic { !locked[f] ->				/* kvm_gmem_get_folio(): lock the folio */
			if
			:: f == page -> locked[f] = true; break
			:: else -> put(f)			/* it was truncated meanwhile */
			fi }
	od
}

inline clear(f, yes)
{
	data[f] = (yes && !uptodate[f] -> ZERO : data[f]);
	uptodate[f] = true
}

/* Unmap the page from the VMM.  What the mapping has a reference to can be in a TLB. */
inline unmap(f)
{
	atomic { f = pte; pte = NONE };				/* unmap_mapping_pages(): clear the PTE, if there is one */
	if
	:: f -> tlb = NONE;					/* unmap_mapping_pages(): flush the TLB */
		atomic { put(f) }				/* unmap_mapping_pages(): drop the mapping's reference */
	:: !f
	fi
}

inline load_or_store(f)
{
	if
	:: DATA(data[f] == last)				/* load */
	:: data[f] = STORED; last = STORED			/* store */
	fi
}

/* --- the VMM: touches its mapping ------------------------------------------------------------------------------------ */

active proctype vmm()
{
#define f held[VMM]
end_idle: progress_idle:
	do
	:: !quiet && !tlb && pte -> tlb = pte			/* load or store: the TLB gets the PTE */
	:: atomic { !quiet && tlb -> DATA(refs[tlb]);		/* use the TLB entry */
		if
		:: tlb == page -> LEAK(!private && !guests[tlb]); load_or_store(tlb)
		:: else						/* it was punched out, and the other thread is unmapping it */
		fi }
	:: atomic { !quiet && !tlb && !pte && !mmap_writer -> mmap_readers++ };	/* fault: take mmap_lock for reading */
		atomic { !(inv_writer && with(host_lock)) ->
			if
			:: private -> mmap_readers--; goto end_idle	/* kvm_gmem_fault_user_mapping(): the page is private, SIGBUS */
			:: !private && changing && with(host_wait) -> asleep[VMM] = true; goto wait	/* kvm_gmem_fault_lock(): the page is being changed */
			:: else -> inv_readers = inv_readers + with(host_lock)	/* kvm_gmem_fault_user_mapping(): take invalidate_lock, the page is shared */
			fi };
		if
		:: atomic { page && uptodate[page] && !locked[page] && !pte ->	/* kvm_gmem_map_around(): map what is there, release the locks */
			LEAK(!private && !guests[page]);
			pte = page; refs[page]++;
			inv_readers = inv_readers - with(host_lock);
			mmap_readers--; goto end_idle }
		:: true
		fi;
		get_folio(f);
		atomic { inv_readers = inv_readers - with(host_lock);	/* kvm_gmem_fault_user_mapping(): release invalidate_lock, clear the page */
			clear(f, with(host_clear));
			locked[f] = with(host_folio) };
		atomic { LEAK(!private && !guests[f]);		/* finish_fault(): map the page, unlock the folio, release mmap_lock */
			DATA(f == page);
			locked[f] = locked[f] && !with(host_folio);
			if
			:: !pte -> pte = f; f = NONE		/* the mapping keeps the reference */
			:: else -> put(f)
			fi;
			mmap_readers--; goto end_idle };
wait:
		if
		:: with(wait_mmap) -> mmap_readers--; !asleep[VMM]	/* kvm_gmem_fault_lock(): release mmap_lock, wait for the change, retry */
		:: true ->					/* kvm_gmem_fault_lock(): wait for the change with mmap_lock, the fault can't be retried */
			atomic { !asleep[VMM] -> mmap_readers-- }
		fi
	od
#undef f
}

/* --- the VMM's other thread: pins the page, or unmaps it ------------------------------------------------------------- */

active proctype other()
{
	byte f;

end_idle: progress_idle:
	do
	:: atomic { !quiet && pte -> f = pte };			/* gup_fast_pte_range(): read the PTE */
		atomic {
			if
			:: refs[f] -> refs[f]++			/* gup_fast_pte_range(): get a reference */
			:: else -> f = NONE; goto end_idle	/* gup_fast_pte_range(): the folio is free by now */
			fi };
		atomic {
			if
			:: pte != f && with(gup_recheck) -> put(f); goto end_idle	/* gup_fast_pte_range(): the PTE has changed */
			:: else -> pinned = f; LEAK(f != page || !private)	/* gup_fast_pte_range(): the page is pinned */
			fi };
		do
		:: atomic { !quiet && f == page -> LEAK(!private && !guests[f]); load_or_store(f) }	/* use the pin */
		:: atomic { pinned = NONE; put(f); break }	/* unpin_user_page() */
		od
	:: atomic { !quiet && !mmap_writer -> mmap_writer = true };	/* munmap(): wait for mmap_lock for writing */
		atomic { !mmap_readers -> mmap_writer = false };	/* munmap(): take mmap_lock, downgrade it */
		unmap(f)
	od
}

/* --- the guest: touches the page ------------------------------------------------------------------------------------- */

inline lookup(state)
{
	atomic { looking = true; state = private };		/* kvm_gmem_is_private(): find the entry */
	atomic { DATA(!freed);					/* kvm_gmem_is_private(): read the entry */
		if
		:: state = private				/* it has been overwritten since */
		:: true						/* it has been replaced since, or is the same */
		fi;
		looking = false; freed = false }
}

inline map(pfn, state)
{
	DATA(pfn == page);
	STATE(state == private && state == guests[pfn]);
	spte = pfn
}

active proctype vcpu()
{
#define f	held[VCPU]
#define ready	(pfn && (uptodate[pfn] || !with(guest_uptodate)) && (guests[pfn] || !state || !with(guest_prepared)))
	byte pfn;
	bool state, now, retry;

end_idle: progress_idle:
	do
	:: !quiet && !gtlb && spte -> gtlb = spte		/* load or store: the TLB gets the SPTE */
	:: atomic { !quiet && gtlb -> DATA(gtlb == page);	/* use the TLB entry */
		STATE(guests[gtlb] == private);
		load_or_store(gtlb) }
	:: !quiet && !gtlb && !spte -> moved = false;		/* kvm_mmu_faultin_pfn(): sample mmu_invalidate_seq */
		lookup(state);
		atomic {
			if
			:: moved = true; state = false; goto end_idle	/* kvm_mmu_faultin_pfn(): the guest wants the other state, exit */
			:: moved = moved && with(guest_sample); pfn = page	/* kvm_gmem_find_pfn(): look up the page */
			fi };
		if
		:: ready -> goto fault_map			/* kvm_gmem_find_pfn(): the page can be mapped as it is */
		:: !ready					/* kvm_gmem_find_pfn(): there is something to be done first */
		fi;
		do
		:: atomic { !(inv_writer && with(guest_lock)) ->
			if
			:: changing && with(guest_wait) -> asleep[VCPU] = true	/* kvm_gmem_lock_index(): the page is being changed */
			:: else -> inv_readers = inv_readers + with(guest_lock); break	/* kvm_gmem_lock_index(): take invalidate_lock */
			fi };
			!asleep[VCPU]				/* kvm_gmem_wait_for_change() */
		od;
		get_folio(f);
		atomic { now = private; clear(f, true) };	/* kvm_gmem_get_pfn(): clear the page, look up the state */
		atomic { STATE(now || !guests[f]);		/* kvm_gmem_get_pfn(): make a private page the guest's, release everything */
			guests[f] = now; now = false;
			pfn = f; locked[f] = false;
			inv_readers = inv_readers - with(guest_lock);
			if
			:: with(guest_put) -> put(f)
			:: else
			fi };
fault_map:
		atomic {
			if
			:: (in_progress && with(guest_progress)) || (moved && with(guest_seq)) -> retry = quiet	/* is_page_fault_stale(): yes */
			:: else -> map(pfn, state)		/* kvm_tdp_mmu_map(): map the page */
			fi;
			if
			:: f -> put(f)
			:: else
			fi;
			moved = true; pfn = NONE; state = false };
		atomic { !retry || !in_progress -> retry = false }	/* who retries gets nowhere until the invalidation has ended */
	:: !quiet && !spte -> mmu_readers++;			/* tdp_mmu_map_around(): the fault is at a neighbor of the page */
		if
		:: in_progress && with(around) -> goto around_end	/* tdp_mmu_map_around(): an invalidation is in progress */
		:: !in_progress || !with(around)
		fi;
		lookup(state);
		pfn = page;					/* kvm_gmem_find_pfns(): look up the page */
		atomic {
			if
			:: ready -> map(pfn, state)		/* tdp_mmu_map_around(): map the page */
			:: else
			fi };
around_end:
		atomic { mmu_readers--; pfn = NONE; state = false }	/* kvm_tdp_mmu_page_fault(): release mmu_lock */
	od
#undef f
}

/* --- changes: conversions and holes ---------------------------------------------------------------------------------- */

inline begin_change(yes)
{
	atomic { !quiet && !(change_lock && with(mutex)) -> change_lock = true };	/* kvm_gmem_lock_changes(): take change_lock */
	inv_writer = yes;					/* kvm_gmem_begin_change(): wait for invalidate_lock for writing */
	atomic { !(inv_readers && with(publish_lock) && yes) -> changing = yes; inv_writer = false }	/* kvm_gmem_begin_change(): publish the range */
}

inline invalidate_start(yes)
{
	atomic { !(mmu_readers && yes) ->			/* kvm_mmu_invalidate_start(): an invalidation is in progress; unmap the guest */
		in_progress = in_progress + yes;
		spte = (yes && with(start_unmap) -> NONE : spte) };
	gtlb = (yes && with(start_flush) -> NONE : gtlb)	/* kvm_flush_remote_tlbs() */
}

inline invalidate_end(yes)
{
	atomic { !(mmu_readers && yes) ->			/* kvm_mmu_invalidate_end(): move mmu_invalidate_seq, the invalidation is over */
		moved = moved || (yes && with(end_seq));
		in_progress = in_progress - (yes && with(end_progress)) }
}

inline commit(yes)
{
	atomic {
		if
		:: yes ->					/* gmem_attributes_commit(), after kvm_gmem_reclaim() of what becomes shared */
			guests[page] = guests[page] && !(private && with(reclaim));
			LEAK(private || (!pte && (!page || (tlb != page && pinned != page))));
			STATE(!spte && !gtlb && (!private || !guests[page]));
			private = !private;
			freed = looking && !with(rcu)
		:: else
		fi }
}

inline end_change()
{
	atomic { !(mmap_writer && !with(no_user_memory)) -> changing = false };	/* kvm_gmem_end_change(): release the range */
	atomic {						/* kvm_gmem_end_change(): wake who waits; release change_lock */
		asleep[VMM] = asleep[VMM] && !with(wake);
		asleep[VCPU] = asleep[VCPU] && !with(wake);
		change_lock = false }
}

active proctype convert()
{
	byte f;

end_idle: progress_idle:
	do
	:: begin_change(true);
		do
		:: private || !page || refs[page] == 1 + (pte && !with(ref_exact)) -> break	/* kvm_gmem_take_from_host(): nobody else has a reference */
		:: !private && page && refs[page] != 1 && !(locked[page] && with(ref_wait)) ->	/* kvm_gmem_drop_references(): somebody has, and the folio isn't locked */
			if
			:: pte && with(host_unmap) && with(ref_last) -> unmap(f)	/* kvm_gmem_drop_references(): it is mapped */
			:: pte && refs[page] == 2 && !with(ref_last) -> unmap(f); break
			:: !pte && !with(ref_check) -> break
			:: !pte || !with(host_unmap) ->		/* kvm_gmem_drop_references(): it isn't mapped; wait for a while */
				if
				:: refs[page] == 1
				:: atomic { refs[page] != 1 ->	/* kvm_gmem_drop_references(): EAGAIN */
					BUSY(!pte && held[VMM] != page && held[VCPU] != page);
					goto out }
				fi
			fi
		od;
		commit(!with(start_first));
		invalidate_start(with(start));
		if
		:: with(end_last) -> commit(with(start_first)); invalidate_end(with(start))
		:: else -> invalidate_end(true); commit(true)
		fi;
out:		end_change()
	od
}

active proctype punch()
{
	byte f;

end_idle: progress_idle:
	do
	:: begin_change(with(hole_publish));
		if
		:: !page -> goto out				/* kvm_gmem_punch_hole(): there is nothing */
		:: page
		fi;
		invalidate_start(with(hole_start));
		atomic { !locked[page] -> locked[page] = true };	/* truncate_inode_pages_range(): lock the folio */
		unmap(f);
		atomic { f = page; page = NONE; last = ZERO;	/* truncate_inode_pages_range(): remove the folio; hardware gives it back */
			guests[f] = false; locked[f] = false;
			data[f] = JUNK; uptodate[f] = false;
			put(f) };
		invalidate_end(with(hole_start));
out:		end_change()
	od
}

active proctype end()
{
	quiet = true						/* nothing new begins from here on */
}
