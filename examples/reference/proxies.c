/* Short pieces for the reference: relays, the PROXY protocol, the first message of TLS. */

#include <errno.h>
#include <stdio.h>

#include <event2/buffer.h>

#include <ferry/ferry.h>

bool speaks_http2(const struct ferry_client_hello *hello)
{
	return ferry_client_hello_offers(hello, "h2");
}

/* Announces the client to a server, in front of the client's bytes. */
int announce(struct evbuffer *output, const struct sockaddr *client, socklen_t client_length,
             const struct sockaddr *own, socklen_t own_length, const char *host, size_t host_length)
{
	struct ferry_proxy_protocol *header;
	int status = ferry_proxy_protocol_new(&header);

	if (status < 0)
		return status;
	status = ferry_proxy_protocol_set_addresses(header, SOCK_STREAM, client, client_length, own,
	                                            own_length);
	if (status == 0)
		status = ferry_proxy_protocol_add_tlv(header, FERRY_PROXY_PROTOCOL_TLV_AUTHORITY, host,
		                                      host_length);
	if (status == 0)
		status = ferry_proxy_protocol_set_checksum(header, true);
	if (status == 0)
		status = ferry_proxy_protocol_write(header, 2, output);
	ferry_proxy_protocol_free(header);
	return status;
}

/* A health check of the balancer's own: no client stands behind it. */
int announce_health_check(struct evbuffer *output)
{
	struct ferry_proxy_protocol *header;
	int status = ferry_proxy_protocol_new(&header);

	if (status < 0)
		return status;
	status = ferry_proxy_protocol_set_local(header);
	if (status == 0)
		status = ferry_proxy_protocol_write(header, 2, output);
	ferry_proxy_protocol_free(header);
	return status;
}

void print_tlvs(const struct ferry_proxy_protocol *header)
{
	struct ferry_proxy_protocol_info info;
	struct ferry_proxy_protocol_tlv tlv;
	size_t position = 0;

	if (ferry_proxy_protocol_get_info(header, &info) < 0)
		return;
	while (ferry_proxy_protocol_tlv_next(&tlv, info.tlvs, info.tlvs_length, &position) == 0)
		printf("type %u, %zu bytes\n", tlv.type, tlv.length);
}

void print_client(const struct ferry_proxy_protocol *header)
{
	struct ferry_proxy_protocol_tlv name;
	struct ferry_proxy_protocol_ssl ssl;

	if (ferry_proxy_protocol_find_tlv(&name, header, FERRY_PROXY_PROTOCOL_TLV_AUTHORITY) == 0)
		printf("asked for %.*s\n", (int)name.length, (const char *)name.value);
	if (ferry_proxy_protocol_get_ssl(&ssl, header) == 0)
		printf("%s certificate\n", ssl.verify == 0 ? "a verified" : "no verified");
}

int bound_relay(struct ferry_relay *relay)
{
	const struct timeval idle = {.tv_sec = 300}, closing = {.tv_sec = 10};
	int status = ferry_relay_set_idle_timeout(relay, &idle);

	return status < 0 ? status : ferry_relay_set_close_timeout(relay, &closing);
}

void end_relay(struct ferry_relay *relay, bool in_peace)
{
	if (in_peace)
		ferry_relay_close(relay); /* sends what it has read */
	else
		ferry_relay_abort(relay, -ECANCELED);
}

void describe_relay(const struct ferry_relay *relay)
{
	struct ferry_peer_credentials client;
	struct ferry_relay_stats stats;

	if (ferry_transport_get_peer_credentials(ferry_relay_get_transport(relay, FERRY_RELAY_CLIENT),
	                                         &client) == 0)
		printf("client of user %ld\n", (long)client.uid);
	if (ferry_relay_get_stats(relay, &stats) == 0)
		printf("%llu bytes from the client\n",
		       (unsigned long long)stats.from[FERRY_RELAY_CLIENT].bytes_passed);
}
