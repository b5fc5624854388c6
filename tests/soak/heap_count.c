/* Counts the blocks of the heap, in any thread. Everything that allocates in this program is wrapped. */

#include "soak.h"

#include <stdatomic.h>
#include <stddef.h>

#include <event2/event.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);
void __wrap_free(void *block);

static atomic_long blocks;

static void *counted(void *block)
{
	if (block != NULL)
		atomic_fetch_add(&blocks, 1);
	return block;
}

void *__wrap_malloc(size_t size)
{
	return counted(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
	return counted(__real_calloc(count, size));
}

void *__wrap_realloc(void *block, size_t size)
{
	void *moved = __real_realloc(block, size);
	return block == NULL ? counted(moved) : moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return counted(__real_aligned_alloc(alignment, size));
}

char *__wrap_strdup(const char *text)
{
	return counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t size)
{
	return counted(__real_strndup(text, size));
}

void __wrap_free(void *block)
{
	if (block != NULL)
		atomic_fetch_sub(&blocks, 1);
	__real_free(block);
}

long soak_heap_blocks(void)
{
	return atomic_load(&blocks);
}

void soak_heap_take_over(void)
{
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, __wrap_free);
}
