#include <errno.h>

#include "transport/core.h"

/* What the user is told of TLS in the kernel, and sets. */

int ferry_transport_get_tls(const struct ferry_transport *transport,
                            struct ferry_transport_tls *tls)
{
	if (transport == NULL || tls == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport->rearm.bev;
	bufferevent_lock(bev);
	bool found = transport_has_tls(transport);
	if (found)
		*tls = (struct ferry_transport_tls){
		    .version = transport->in.stream.part->keys.version,
		    .cipher = transport->in.stream.part->keys.cipher,
		};
	bufferevent_unlock(bev);
	return found ? 0 : -EOPNOTSUPP;
}

int ferry_transport_set_tls_truncation(struct ferry_transport *transport, bool accept)
{
	if (transport == NULL)
		return -EINVAL;
	struct bufferevent *bev = transport_lock(transport);
	struct incoming *stream = &transport->in.stream;
	int status = accept || stream->part != NULL ? incoming_need_part(stream) : 0;
	if (status == 0 && stream->part != NULL) {
		transport_link_reader(transport);
		stream->part->records.truncation_is_end = accept;
	}
	bufferevent_unlock(bev);
	return status;
}
