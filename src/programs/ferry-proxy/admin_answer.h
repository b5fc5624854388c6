#ifndef FERRY_PROGRAMS_FERRY_PROXY_ADMIN_ANSWER_H
#define FERRY_PROGRAMS_FERRY_PROXY_ADMIN_ANSWER_H

/* The answers of the admin address. Each is complete, is never cached, and permits its page nothing but the files of
 * the same address. */

struct evbuffer;
struct evhttp_request;

/* Adds a field to the answer. */
void admin_answer_set(struct evhttp_request *request, const char *name, const char *value);

/* Answers with `body`, which is empty afterwards; to a HEAD without the body, but with its length. */
void admin_answer_body(struct evhttp_request *request, int status, const char *reason,
                       const char *type, struct evbuffer *body);

/* Answers with a line of text. */
void admin_answer_text(struct evhttp_request *request, int status, const char *reason,
                       const char *text);

#endif
