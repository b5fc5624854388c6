#include <event2/bufferevent.h>

#include "ferry/address.h"
#include "ferry/transport.h"

#include "transport/interface.h"

const char *ferry_transport_format_peer(const struct ferry_transport *transport, char *text,
                                        size_t size)
{
	struct bufferevent *bev = ferry_transport_get_bufferevent(transport);
	struct ferry_address address = {.length = 0};

	/* Two descriptors may be sockets of two connections. */
	if (bev != NULL && !transport_is_on_pipes(transport))
		(void)ferry_address_set_peer(&address, (int)bufferevent_getfd(bev));
	return ferry_address_format(&address, text, size);
}
