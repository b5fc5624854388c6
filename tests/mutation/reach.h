/* Compiled into each source of the copy: FERRY_MUTATION_REACHED names a file with one byte for each function, and a
 * function that runs sets its own. Every process of a test shares the file. */
#ifndef FERRY_TESTS_MUTATION_REACH_H
#define FERRY_TESTS_MUTATION_REACH_H

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

__attribute__((weak, visibility("hidden"))) unsigned char *ferry_mutation_reached;

__attribute__((constructor)) static void ferry_mutation_open(void)
{
	const char *path = getenv("FERRY_MUTATION_REACHED");
	if (path == NULL || ferry_mutation_reached != NULL)
		return;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	void *map = mmap(NULL, 1 << 14, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		ferry_mutation_reached = map;
}

#define FERRY_MUTATION_REACH(function)            \
	do {                                          \
		if (ferry_mutation_reached != NULL)       \
			ferry_mutation_reached[function] = 1; \
	} while (0);

#endif
