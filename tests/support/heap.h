#ifndef FERRY_TESTS_HEAP_H
#define FERRY_TESTS_HEAP_H

/* The heap as the library and libevent use it: counted, and made to fail. A program that uses this is
 * linked with --wrap for malloc, calloc, realloc, aligned_alloc and free. */

#include <stdbool.h>
#include <stddef.h>

/* Puts libevent's memory under it too. In BEFORE_ALL. */
void heap_take_over(void);

/* Starts a watch: allocations are numbered from 1, and the one with the number `failing` fails,
 * once; 0: none fails. Memory allocated before the watch does not count. */
void heap_watch(unsigned long failing);

/* While watching, asks `fails` too at each allocation whether it fails; NULL: asks nobody. */
void heap_ask(bool (*fails)(void));

/* Ends the watch, and returns the count of allocations during it. */
unsigned long heap_unwatch(void);

/* Around code that is not under test, while watching: check's own, above all. */
void heap_suspend(void);
void heap_continue(void);

/* Aborts unless it holds: check's own assertions take memory, and do not do while watching. */
void must(bool holds);

/* Blocks, and bytes in them, that were allocated under a watch and are not freed yet. */
size_t heap_blocks(void);
size_t heap_bytes(void);

#endif
