#ifndef FERRY_TRANSPORT_FILE_PRODUCER_H
#define FERRY_TRANSPORT_FILE_PRODUCER_H

#include "stream/outgoing.h"

/* For the stream: a file without callbacks for a file segment in the output buffer. `argument` is the transport.
 * NULL: no memory. */
struct outgoing_file *file_producer_adopt(void *argument, const struct file_source *source);

#endif
