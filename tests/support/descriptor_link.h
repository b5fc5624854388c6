#ifndef FERRY_TESTS_DESCRIPTOR_LINK_H
#define FERRY_TESTS_DESCRIPTOR_LINK_H

/* Two streams of messages, one of which receives descriptors, on a system that may lack memory or /proc. A
 * program that uses this is linked with --wrap for fdopen and readlink, and with the library's objects. */

#include <stdbool.h>
#include <stdio.h>

#include "descriptor_inbox.h"
#include "samples.h"

extern bool no_memory, no_proc;

enum { TYPE = 0x1234 };

extern struct descriptor_inbox inbox;
extern struct ferry_message_stream *sender;

void open_streams(void);
void close_streams(void);

struct ferry_descriptor *send_over(int fd, const char *name);
FILE *to_file(struct ferry_descriptor *descriptor);
void expect_line(FILE *file, const char *expected);
bool is_readable(int fd, int milliseconds);

enum { LONG = 60000 }; /* ms; longer than any test takes */

#endif
