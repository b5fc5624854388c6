#ifndef FERRY_TESTS_FUZZ_H
#define FERRY_TESTS_FUZZ_H

/* What every fuzz target shares: the input as a script, a loop of its own for each input, and the far
 * end of a channel that says whatever the script has it say. check's macros are not for here: a target
 * runs in libFuzzer's process. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <event2/event.h>

struct ferry_transport;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Aborts, so that libFuzzer keeps the input, and ctest sees it. */
#define FUZZ_CHECK(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))
_Noreturn void fuzz_fail(const char *condition, const char *file, int line);

/* ---- the input ---- */

struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

/* Zeroes behind the end. Numbers are little-endian. */
uint8_t fuzz_byte(struct fuzz_input *input);
uint64_t fuzz_number(struct fuzz_input *input, size_t size);

/* The next bytes, `*size` at most, and how many there are. */
const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t *size);

/* ---- the loop ---- */

/* Around each input: the base is made, and freed; no descriptor more or less is open than before. */
extern struct event_base *fuzz_base;
void fuzz_begin(void);
void fuzz_end(void);

void fuzz_turns(int turns);

/* Runs the loop until the flag is set. That it never is libFuzzer or ctest finds. */
void fuzz_until(const bool *flag);

/* ---- channels ---- */

void fuzz_pair(int fds[2]);
struct ferry_transport *fuzz_transport(int fd);

enum { FUZZ_FDS_MAX = 7, FUZZ_INPUT_MAX = 4096 }; /* longer inputs are not looked at */

/* One sendmsg(2) of something more than nothing, with fresh descriptors of empty memory, or with the
 * caller's. Makes room by turns of the loop. False: the other end takes no more. */
bool fuzz_send(int socket, const void *bytes, size_t length, size_t fd_count);
bool fuzz_send_fds(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count);

/* What was sent, for a target that compares it with what has come of it. */
struct fuzz_sent {
	size_t length;
	uint8_t bytes[128 * 1024];
	size_t send_count; /* of those with descriptors: */
	struct {
		size_t at, fd_count;
	} sends[4096];
};
extern struct fuzz_sent *fuzz_sent; /* NULL: nobody wants to know */

/* Sends a message: with the `declared` number of descriptors, and with these. */
bool fuzz_send_message(int socket, uint16_t type, const void *payload, size_t length,
                       unsigned int declared, const int *fds, size_t fd_count);

/* Reads what is there, one message at a time and without its descriptors, which are closed. False:
 * there is none. */
struct fuzz_message {
	uint16_t type;
	size_t length;
	unsigned char payload[512]; /* as much of it as fits */
};
bool fuzz_receive_message(int socket, struct fuzz_message *message);

/* What any peer may do, as one step of the script; `step` is what the first byte of it leaves:
 *   0  bytes, of a length of their own, with up to 3 descriptors
 *   1  a message with a header in order, and any type, number of descriptors and payload
 *   2  nothing, for a turn of the loop
 *   3  the end of what it sends
 * False: it is none of these. */
bool fuzz_peer_step(int socket, unsigned int step, struct fuzz_input *input);

#endif
