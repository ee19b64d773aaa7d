// SPDX-License-Identifier: GPL-2.0-only
/*
 * Between the code under test and the allocator of tools/testing/shared: watch
 * the requests for nodes and objects, and make them fail.
 *
 * That allocator fails only what must not reclaim.  Take __GFP_DIRECT_RECLAIM away,
 * so that any allocation can fail, at any of its nodes.
 */
#include <malloc.h>

#include "file.h"

unsigned long nr_allocs;
gfp_t alloc_gfp;
long nr_objects;
long object_bytes;

static bool failing;
static unsigned int nr_left;

void alloc_fail_after(unsigned int nr)
{
	failing = true;
	nr_left = nr;
}

void alloc_fail_never(void)
{
	failing = false;
}

static void alloc_watch(gfp_t gfp)
{
	alloc_gfp = nr_allocs++ ? alloc_gfp & gfp : gfp;
}

static gfp_t alloc_hook(struct kmem_cache *s, gfp_t gfp, unsigned int nr)
{
	alloc_watch(gfp);

	if (failing) {
		gfp &= ~__GFP_DIRECT_RECLAIM;
		nr = min(nr, nr_left);
		nr_left -= nr;
		kmem_cache_set_non_kernel(s, nr);
	}
	return gfp;
}

void *__wrap_kmem_cache_alloc_lru(struct kmem_cache *cachep,
				  struct list_lru *lru, int gfp)
{
	return __real_kmem_cache_alloc_lru(cachep, lru,
					   alloc_hook(cachep, gfp, 1));
}

struct slab_sheaf *__wrap_kmem_cache_prefill_sheaf(struct kmem_cache *s,
						   gfp_t gfp,
						   unsigned int size)
{
	return __real_kmem_cache_prefill_sheaf(s, alloc_hook(s, gfp, size), size);
}

/* As ASan is told, i.e. not rounded up. */
size_t object_size(const void *object)
{
	return malloc_usable_size((void *)object);
}

void *__wrap_kmalloc(size_t size, gfp_t gfp)
{
	void *p;

	alloc_watch(gfp);
	if (failing && !nr_left)
		return NULL;
	if (failing)
		nr_left--;

	p = __real_kmalloc(size, gfp);
	if (p) {
		/* What hasn't been written yet must not look like anything. */
		memset(p, 0xa5, size);
		uatomic_inc(&nr_objects);
		uatomic_add(&object_bytes, object_size(p));
	}
	return p;
}

void __wrap_kfree(void *p)
{
	/* The maple tree frees some of its nodes with kfree(). */
	if (p && object_size(p) != sizeof(struct maple_node)) {
		uatomic_dec(&nr_objects);
		uatomic_sub(&object_bytes, object_size(p));
	}
	__real_kfree(p);
}

static void object_free_rcu(struct rcu_head *head)
{
	__wrap_kfree(head);
}

/* An object begins with its head, whatever that's called. */
void object_kfree_rcu(void *object, const char *head __maybe_unused)
{
	call_rcu(object, object_free_rcu);
}

long objects_allocated(void)
{
	rcu_barrier();

	return uatomic_read(&nr_objects);
}

long nodes_allocated(void)
{
	long nr = objects_allocated();

	/* Nodes that are freed with kfree() are counted down elsewhere. */
	return uatomic_read(&nr_allocated) +
	       uatomic_read(&kmalloc_nr_allocated) - nr;
}
