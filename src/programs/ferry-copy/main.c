/* Copies one file over a unix or TCP socket. "ferry-copy send" runs at one end and "ferry-copy receive" at
 * the other; either of them may be the one that listens. */

#include "programs/ferry-copy/receive.h"
#include "programs/ferry-copy/send.h"
#include "programs/shared/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: ferry-copy send [options] ADDRESS FILE\n"
    "       ferry-copy receive [options] ADDRESS [DIRECTORY]\n"
    "Copies one file over a unix or TCP socket, and resumes a copy that was cut off.\n"
    "\n"
    "  --help     show this; \"ferry-copy send --help\" shows the options of send\n"
    "  --version  show the version\n"
    "\n"
    "Exit status: 0 the whole file was copied, 1 it was not, 2 wrong usage.\n";

int main(int argc, char **argv)
{
	const char *command = argc > 1 ? argv[1] : "";
	if (argc > 1)
		argv[1] = argv[0]; /* getopt_long(3) prints it before what is wrong */
	if (strcmp(command, "send") == 0)
		return send_run(argc - 1, argv + 1);
	if (strcmp(command, "receive") == 0)
		return receive_run(argc - 1, argv + 1);
	if (strcmp(command, "--help") == 0) {
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	}
	if (strcmp(command, "--version") == 0) {
		program_print_version("ferry-copy");
		return EXIT_SUCCESS;
	}
	fputs(usage, stderr);
	return 2;
}
