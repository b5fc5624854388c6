#include "heap.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include <event2/event.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *block);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *block);

static bool watching, suspended;
static unsigned long calls, failing_call;
static bool (*asked)(void);

/* The blocks of the watch, in an open hash table of its own: a block from before must not count when
 * it is freed. A thread of the library allocates and frees too. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { TABLE_SIZE = 1 << 16 };
static struct {
	void *block;
	size_t size;
} table[TABLE_SIZE];
static void *const removed = table;
static size_t blocks, bytes;

static size_t place_of(const void *block)
{
	return ((uintptr_t)block >> 4) * 2654435761U % TABLE_SIZE;
}

static void note_block(void *block)
{
	if (block == NULL || !watching || suspended)
		return;
	pthread_mutex_lock(&lock);
	size_t i = place_of(block);
	while (table[i].block != NULL && table[i].block != removed)
		i = (i + 1) % TABLE_SIZE;
	table[i].block = block;
	table[i].size = malloc_usable_size(block);
	blocks++;
	bytes += table[i].size;
	pthread_mutex_unlock(&lock);
}

static void forget_block(const void *block)
{
	if (block == NULL)
		return;
	pthread_mutex_lock(&lock);
	for (size_t i = place_of(block); table[i].block != NULL; i = (i + 1) % TABLE_SIZE) {
		if (table[i].block == block) {
			table[i].block = removed;
			blocks--;
			bytes -= table[i].size;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
}

static bool fails_now(void)
{
	if (!watching || suspended)
		return false;
	bool fails = ++calls == failing_call;
	if (asked != NULL)
		fails |= asked();
	if (!fails)
		return false;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t size)
{
	if (fails_now())
		return NULL;
	void *block = __real_malloc(size);
	note_block(block);
	return block;
}

void *__wrap_calloc(size_t count, size_t size)
{
	if (fails_now())
		return NULL;
	void *block = __real_calloc(count, size);
	note_block(block);
	return block;
}

void *__wrap_realloc(void *block, size_t size)
{
	if (fails_now())
		return NULL;
	forget_block(block);
	void *moved = __real_realloc(block, size);
	note_block(moved);
	return moved;
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
	if (fails_now())
		return NULL;
	void *block = __real_aligned_alloc(alignment, size);
	note_block(block);
	return block;
}

void __wrap_free(void *block)
{
	forget_block(block);
	__real_free(block);
}

void heap_take_over(void)
{
	event_set_mem_functions(__wrap_malloc, __wrap_realloc, __wrap_free);
}

void heap_watch(unsigned long failing)
{
	calls = 0;
	failing_call = failing;
	suspended = false;
	watching = true;
}

void heap_ask(bool (*fails)(void))
{
	asked = fails;
}

unsigned long heap_unwatch(void)
{
	watching = false;
	return calls;
}

void heap_suspend(void)
{
	suspended = true;
}

void heap_continue(void)
{
	suspended = false;
}

void must(bool holds)
{
	if (!holds)
		abort();
}

static size_t locked(const size_t *count)
{
	pthread_mutex_lock(&lock);
	size_t now = *count;
	pthread_mutex_unlock(&lock);
	return now;
}

size_t heap_blocks(void)
{
	return locked(&blocks);
}

size_t heap_bytes(void)
{
	return locked(&bytes);
}
