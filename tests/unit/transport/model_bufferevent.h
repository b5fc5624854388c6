#ifndef FERRY_TESTS_MODEL_BUFFEREVENT_H
#define FERRY_TESTS_MODEL_BUFFEREVENT_H

/* A transport that is used as a bufferevent, with the bufferevent's own callbacks, until it gets a protocol. */

#include "model_end.h"

/* Begins, in place of the first protocol. */
void model_bufferevent_begin(struct model_end *end);

/* The end gets a protocol at last; one that is over without a callback is marked so. */
void model_bufferevent_finish(struct model_end *end);

#endif
