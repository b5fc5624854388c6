#include <errno.h>

#include "channel/channel.h"
#include "channel/ready.h"

/*
 * The settings of a channel, and the questions about it.
 */

/* Under the new settings the input may be another event, and its amount more or less than the limit. */
static int settle_again(struct ferry_channel *channel)
{
	if (channel->life != CHANNEL_FREED) {
		ready_wake(channel);
		(void)channel->kind->settle(channel, false); /* -ENOMEM: the next poll tries again */
	}
	return 0;
}

static int set_bytes(struct ferry_channel *channel)
{
	channel->settings.lines = channel->settings.messages = false;
	line_scanner_restart(&channel->in.scanner);
	return settle_again(channel);
}

int ferry_channel_set_lines(struct ferry_channel *channel, const void *delimiter,
                            size_t delimiter_length, size_t max_length)
{
	if (channel == NULL || channel->messages != NULL)
		return -EINVAL;
	if (delimiter_length == 0)
		return set_bytes(channel);
	if (delimiter == NULL || delimiter_length > LINE_DELIMITER_MAX || max_length < 1 ||
	    max_length > LINE_LENGTH_MAX)
		return -EINVAL;
	channel->settings.lines = true;
	channel->settings.messages = false;
	channel->in.scanner.max_length = max_length;
	line_scanner_set_delimiter(&channel->in.scanner, delimiter, delimiter_length);
	return settle_again(channel);
}

int ferry_channel_set_half_close(struct ferry_channel *channel, bool half_close)
{
	if (channel == NULL)
		return -EINVAL;
	channel->settings.half_close = half_close;
	channel_settle_end(channel);
	return settle_again(channel);
}

int ferry_channel_set_limits(struct ferry_channel *channel, size_t read_limit, size_t write_limit)
{
	if (channel == NULL || read_limit == 0 || write_limit == 0)
		return -EINVAL;
	channel->settings.read_limit = read_limit;
	channel->settings.write_limit = write_limit;
	return settle_again(channel);
}

int ferry_channel_set_context(struct ferry_channel *channel, void *context)
{
	if (channel == NULL)
		return -EINVAL;
	channel->context = context;
	return 0;
}

void *ferry_channel_get_context(const struct ferry_channel *channel)
{
	return channel != NULL ? channel->context : NULL;
}

int ferry_channel_get_fd(const struct ferry_channel *channel)
{
	return channel != NULL ? channel->kind->get_fd(channel) : -EINVAL;
}

struct ferry_transport *ferry_channel_get_transport(const struct ferry_channel *channel)
{
	return channel != NULL ? channel->transport : NULL;
}
