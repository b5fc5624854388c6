/* Runs a fuzz target on files, for builds without libFuzzer: replay FILE|DIRECTORY… */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

enum { INPUT_MAX = 1024 * 1024, PATH_SIZE = 4096 };

static unsigned int inputs;

/* Exact heap copies: a sanitizer, or valgrind, sees a read of one byte too many. */
static void run(const char *path)
{
	static uint8_t bytes[INPUT_MAX];
	FILE *file = fopen(path, "rb");

	FUZZ_CHECK(file != NULL);
	size_t size = fread(bytes, 1, sizeof(bytes), file);
	FUZZ_CHECK(feof(file) && !ferror(file));
	fclose(file);
	printf("%s: %zu bytes\n", path, size);
	fflush(stdout); /* which input it was, should this be the last line */
	uint8_t *copy = malloc(size > 0 ? size : 1);
	FUZZ_CHECK(copy != NULL);
	memcpy(copy, bytes, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	inputs++;
}

static int is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void run_directory(const char *path)
{
	struct dirent **entries = NULL;
	int count = scandir(path, &entries, is_input, alphasort);

	FUZZ_CHECK(count >= 0);
	for (int i = 0; i < count; i++) {
		char name[PATH_SIZE];
		snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
		run(name);
		free(entries[i]);
	}
	free(entries);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		struct stat status;
		FUZZ_CHECK(stat(argv[i], &status) == 0);
		if (S_ISDIR(status.st_mode))
			run_directory(argv[i]);
		else
			run(argv[i]);
	}
	FUZZ_CHECK(inputs > 0);
	return EXIT_SUCCESS;
}
