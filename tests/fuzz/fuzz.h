#ifndef FERRY_TESTS_FUZZ_H
#define FERRY_TESTS_FUZZ_H

/* The common parts of all fuzz targets: the input as a script, an event loop for each input, and
 * the far end of a channel, which sends the bytes and descriptors of the script. A target cannot
 * use check's macros, because it runs in libFuzzer's process. */

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

/* Read the next byte or number of the input; behind its end they return 0. Numbers are
 * little-endian. */
uint8_t fuzz_byte(struct fuzz_input *input);
uint64_t fuzz_number(struct fuzz_input *input, size_t size);

/* Returns the next bytes, `*size` at most, and sets `*size` to their count. */
const uint8_t *fuzz_bytes(struct fuzz_input *input, size_t *size);

/* ---- the loop ---- */

/* Called around each input: make and free the base. fuzz_end() fails if the count of open
 * descriptors has changed. */
extern struct event_base *fuzz_base;
void fuzz_begin(void);
void fuzz_end(void);

void fuzz_turns(int turns);

/* Runs the loop until the flag is set. If it never is, the timeout of libFuzzer or ctest reports
 * the hang. */
void fuzz_until(const bool *flag);

/* ---- channels ---- */

void fuzz_pair(int fds[2]);
struct ferry_transport *fuzz_transport(int fd);

enum { FUZZ_FDS_MAX = 7, FUZZ_INPUT_MAX = 4096 }; /* longer inputs are not looked at */

/* One sendmsg(2) of something more than nothing, with fresh descriptors of empty memory, or with the
 * caller's. Makes room by turns of the loop. False: the other end takes no more. */
bool fuzz_send(int socket, const void *bytes, size_t length, size_t fd_count);
bool fuzz_send_fds(int socket, const void *bytes, size_t length, const int *fds, size_t fd_count);

/* The bytes and descriptors that were sent, for a target that compares them with the received
 * ones. */
struct fuzz_sent {
	size_t length;
	uint8_t bytes[128 * 1024];
	size_t send_count; /* of those with descriptors: */
	struct {
		size_t at, fd_count;
	} sends[4096];
};
extern struct fuzz_sent *fuzz_sent; /* NULL: not recorded */

/* Sends a message: with the `declared` number of descriptors, and with these. */
bool fuzz_send_message(int socket, uint16_t type, const void *payload, size_t length,
                       unsigned int declared, const int *fds, size_t fd_count);

/* Reads the next message that has come, and closes its descriptors. Returns false if there is
 * none. */
struct fuzz_message {
	uint16_t type;
	size_t length;
	unsigned char payload[512]; /* as much of it as fits */
};
bool fuzz_receive_message(int socket, struct fuzz_message *message);

/* One step of the script, with an action that any peer may take. `step` chooses the action:
 *   0  bytes, of a length of their own, with up to 3 descriptors
 *   1  a message with a header in order, and any type, number of descriptors and payload
 *   2  nothing, for a turn of the loop
 *   3  the end of the peer's sending
 * Returns false if `step` is none of these. */
bool fuzz_peer_step(int socket, unsigned int step, struct fuzz_input *input);

#endif
