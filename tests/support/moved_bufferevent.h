#ifndef FERRY_TESTS_MOVED_BUFFEREVENT_H
#define FERRY_TESTS_MOVED_BUFFEREVENT_H

/* A bufferevent that counts its callbacks, and the events of its descriptor that epoll watches. */

#include <stdbool.h>
#include <stddef.h>

#include "ferry/handoff.h"

extern int moved_ends[2]; /* the bufferevent's, and the client's */

extern unsigned int moved_reads, moved_writes;
extern short moved_events;
extern void (*moved_hook)(struct bufferevent *bev);

void set_callbacks(struct bufferevent *bev);

/* A bufferevent that reads, with the client at the other end. */
struct bufferevent *make_reader(int options);
size_t input_length(struct bufferevent *bev);
bool input_is_full(void *argument);

/* The client sends, and the bufferevent reads. */
void receive_moved(struct bufferevent *bev, size_t length);
void expect_input(struct bufferevent *bev, size_t length);
void free_bufferevent(struct bufferevent *bev);

/* The events that the loop waits for on a descriptor; 0 if it does not know it. It may still know a
 * closed one. */
unsigned int epoll_events(int fd);

struct ferry_handoff *take_bufferevent(struct bufferevent *bev);
void expect_bytes(const struct ferry_handoff *handoff, size_t length);

enum { MOVED_SIZES = 5 };

extern const size_t moved_sizes[MOVED_SIZES];

#endif
