#include "proxy_protocol/header.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	TLVS_MAX = V2_REST_MAX - V2_UNIX - V2_CRC_TLV,
	SSL_FIXED = 5 /* a byte of bits, and four of the result of the verification */
};

int ferry_proxy_protocol_tlv_next(struct ferry_proxy_protocol_tlv *out, const void *tlvs,
                                  size_t length, size_t *position)
{
	const unsigned char *bytes = tlvs;
	if (out == NULL || position == NULL || (tlvs == NULL && length > 0))
		return -EINVAL;
	size_t at = *position;
	if (at >= length)
		return -ENOENT;
	if (length - at < V2_TLV_HEADER)
		return -EPROTO;
	size_t size = proxy_protocol_get_16(bytes + at + 1);
	if (length - at - V2_TLV_HEADER < size)
		return -EPROTO;
	*out = (struct ferry_proxy_protocol_tlv){
	    .type = bytes[at], .value = bytes + at + V2_TLV_HEADER, .length = size};
	*position = at + V2_TLV_HEADER + size;
	return 0;
}

int ferry_proxy_protocol_find_tlv(struct ferry_proxy_protocol_tlv *out,
                                  const struct ferry_proxy_protocol *header, unsigned int type)
{
	struct ferry_proxy_protocol_tlv tlv;
	size_t position = 0;
	if (out == NULL || header == NULL)
		return -EINVAL;
	while (ferry_proxy_protocol_tlv_next(&tlv, header->tlvs, header->tlvs_length, &position) == 0)
		if (tlv.type == type) {
			*out = tlv;
			return 0;
		}
	return -ENOENT;
}

int ferry_proxy_protocol_get_ssl(struct ferry_proxy_protocol_ssl *out,
                                 const struct ferry_proxy_protocol *header)
{
	struct ferry_proxy_protocol_tlv tlv;
	if (out == NULL)
		return -EINVAL;
	int status = ferry_proxy_protocol_find_tlv(&tlv, header, FERRY_PROXY_PROTOCOL_TLV_SSL);
	if (status < 0)
		return status;
	if (tlv.length < SSL_FIXED)
		return -EPROTO;
	const unsigned char *value = tlv.value;
	*out = (struct ferry_proxy_protocol_ssl){.client = value[0],
	                                         .verify = (uint32_t)proxy_protocol_get_16(value + 1)
	                                                       << 16 |
	                                                   proxy_protocol_get_16(value + 3),
	                                         .tlvs = value + SSL_FIXED,
	                                         .tlvs_length = tlv.length - SSL_FIXED};
	return 0;
}

int ferry_proxy_protocol_add_tlv(struct ferry_proxy_protocol *header, unsigned int type,
                                 const void *value, size_t length)
{
	if (header == NULL || (value == NULL && length > 0) || type > UINT8_MAX ||
	    type == FERRY_PROXY_PROTOCOL_TLV_CRC32C)
		return -EINVAL;
	size_t before = header->tlvs_length;
	if (length > TLVS_MAX || before + V2_TLV_HEADER + length > TLVS_MAX)
		return -EMSGSIZE;
	/* The value may be in the TLVs of this header, which are therefore freed last. */
	unsigned char *tlvs = malloc(before + V2_TLV_HEADER + length);
	if (tlvs == NULL)
		return -ENOMEM;
	if (before > 0)
		memcpy(tlvs, header->tlvs, before);
	tlvs[before] = (unsigned char)type;
	proxy_protocol_put_16(tlvs + before + 1, length);
	if (length > 0)
		memcpy(tlvs + before + V2_TLV_HEADER, value, length);
	free(header->tlvs);
	header->tlvs = tlvs;
	header->tlvs_length = before + V2_TLV_HEADER + length;
	return 0;
}
