#ifndef FERRY_TRANSPORT_FILE_PRODUCER_H
#define FERRY_TRANSPORT_FILE_PRODUCER_H

#include "stream/outgoing.h"

/* For the stream: a file without callbacks for a file segment in the output buffer. `outgoing` is a transport's.
 * NULL: no memory. */
struct outgoing_file *file_producer_adopt(struct outgoing *outgoing,
                                          const struct file_source *source);

#endif
