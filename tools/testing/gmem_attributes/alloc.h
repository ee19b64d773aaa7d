/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef GMEM_ATTRIBUTES_ALLOC_H
#define GMEM_ATTRIBUTES_ALLOC_H

#include <linux/slab.h>

/*
 * Let the allocation of the next @nr nodes or objects succeed, and no further one,
 * in spite of any gfp flags.
 */
void alloc_fail_after(unsigned int nr);
void alloc_fail_never(void);

/* Requests for memory so far, and the gfp flags that all of them had. */
extern unsigned long nr_allocs;
extern gfp_t alloc_gfp;

/* Nodes of the tree that are allocated, once RCU has freed what it has to. */
long nodes_allocated(void);

/* Objects that entries point to, and what they take, without waiting for RCU. */
extern long nr_objects;
extern long object_bytes;
long objects_allocated(void);

/* What has been asked for when allocating an object. */
size_t object_size(const void *object);

/* The stubs in tools/ that alloc.c looks into, and stands in front of. */
extern int nr_allocated;
extern int kmalloc_nr_allocated;
void kmem_cache_set_non_kernel(struct kmem_cache *cachep, unsigned int val);

void *__real_kmem_cache_alloc_lru(struct kmem_cache *cachep,
				  struct list_lru *lru, int gfp);
void *__wrap_kmem_cache_alloc_lru(struct kmem_cache *cachep,
				  struct list_lru *lru, int gfp);
struct slab_sheaf *__real_kmem_cache_prefill_sheaf(struct kmem_cache *s,
						   gfp_t gfp,
						   unsigned int size);
struct slab_sheaf *__wrap_kmem_cache_prefill_sheaf(struct kmem_cache *s,
						   gfp_t gfp,
						   unsigned int size);
void *__real_kmalloc(size_t size, gfp_t gfp);
void *__wrap_kmalloc(size_t size, gfp_t gfp);
void __real_kfree(void *p);
void __wrap_kfree(void *p);

#endif /* GMEM_ATTRIBUTES_ALLOC_H */
