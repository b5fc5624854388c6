#include "programs/ferry-proxy/conf_listen.h"

#include "programs/ferry-proxy/conf_words.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

static bool read_address(struct settings_reader *reader, const char *word,
                         struct ferry_address *address)
{
	int status = ferry_address_parse(address, word);
	if (status == -ENAMETOOLONG)
		return settings_refuse(reader, "'%s' is too long for a unix socket", settings_shown(word));
	if (status < 0)
		return settings_refuse(
		    reader, "'%s' is not an address like 127.0.0.1:8080, [::1]:8080 or unix:/path",
		    settings_shown(word));
	return true;
}

/* ---- the file of a unix socket ---- */

static bool read_mode(struct settings_reader *reader, const char *word, mode_t *mode)
{
	size_t digits = strspn(word, "01234567");
	mode_t value = 0;
	for (size_t i = 0; i < digits && i < 4; i++)
		value = value * 8 + (mode_t)(word[i] - '0');
	/* The owner has to be able to connect: the proxy finds out so whether a file is of a process that has died. */
	if (digits < 3 || digits > 4 || word[digits] != '\0' || value > 0777 || (value & 0600) != 0600)
		return settings_refuse(reader, "mode='%s' is not one like 0660, from 0600 to 0777",
		                       settings_shown(word));
	*mode = value;
	return true;
}

static bool read_group(struct settings_reader *reader, const char *word, gid_t *group)
{
	unsigned long number = 0;
	if (strspn(word, "0123456789") == strlen(word)) {
		if (!settings_read_number(reader, word, 0, UINT32_MAX - 1UL, &number))
			return false;
		*group = (gid_t)number;
		return true;
	}
	/* cppcheck-suppress getgrnamCalled; the proxy has one thread */
	const struct group *found = getgrnam(word);
	if (found == NULL)
		return settings_refuse(reader, "there is no group '%s'", settings_shown(word));
	*group = found->gr_gid;
	return true;
}

bool conf_listen_access(struct settings_reader *reader, const char *mode, const char *group,
                        struct conf_access *access)
{
	*access = (struct conf_access){.group = (gid_t)-1};
	return (mode == NULL || read_mode(reader, mode, &access->mode)) &&
	       (group == NULL || read_group(reader, group, &access->group));
}

bool conf_listen_user(struct settings_reader *reader, const char *word)
{
	struct conf *conf = reader->target;
	/* cppcheck-suppress getpwnamCalled; the proxy has one thread */
	const struct passwd *found = getpwnam(word);
	if (found == NULL || strlen(word) >= sizeof(conf->user))
		return settings_refuse(reader, "there is no user '%s'", settings_shown(word));
	(void)snprintf(conf->user, sizeof(conf->user), "%s", word);
	conf->uid = found->pw_uid;
	if (!conf->has_group)
		conf->gid = found->pw_gid;
	return true;
}

bool conf_listen_group(struct settings_reader *reader, const char *word)
{
	struct conf *conf = reader->target;
	conf->has_group = true;
	return read_group(reader, word, &conf->gid);
}

/* ---- listen ---- */

/* Addresses and prefixes with commas between them. */
static bool read_from(struct settings_reader *reader, const char *list,
                      struct ferry_proxy_protocol_sources **from)
{
	char word[64];
	if (ferry_proxy_protocol_sources_new(from) < 0)
		return settings_refuse(reader, "out of memory");
	for (const char *next = list; next != NULL;) {
		size_t length = strcspn(next, ",");
		(void)snprintf(word, sizeof(word), "%.*s", (int)(length < 64 ? length : 64), next);
		int status = ferry_proxy_protocol_sources_add(*from, word);
		if (status == -ENOMEM)
			return settings_refuse(reader, "out of memory");
		if (status < 0 || length >= sizeof(word))
			return settings_refuse(reader,
			                       "from=: '%s' is neither an address like 192.0.2.1, a prefix "
			                       "like 192.0.2.0/24 without bits behind it, nor unix",
			                       settings_shown(word));
		next = next[length] == ',' ? next + length + 1 : NULL;
	}
	return true;
}

/* Any number of sockets may be on port 0. */
static bool is_any_port(const struct ferry_address *address)
{
	return address->name.any.sa_family != AF_UNIX && address->name.in.sin_port == 0;
}

/* FileDescriptorName= of systemd.socket(5) allows more, but no colon. Ferry's own names begin with a dot. */
static bool read_systemd_name(struct settings_reader *reader, const char *name,
                              struct conf_listen *listen)
{
	size_t length = 0;
	while (name[length] > ' ' && name[length] <= '~' && name[length] != ':')
		length++;
	if (length == 0 || length > CONF_NAME_MAX || name[length] != '\0' || name[0] == '.')
		return settings_refuse(
		    reader, "'systemd:%s' has no name of 1 to %d ASCII characters without blanks and ':'",
		    settings_shown(name), CONF_NAME_MAX);
	(void)snprintf(listen->systemd, sizeof(listen->systemd), "%s", name);
	return true;
}

static bool is_free(struct settings_reader *reader, const struct ferry_address *address,
                    const char *word)
{
	const struct conf *conf = reader->target;
	for (unsigned int i = 0; i < conf->listen_count; i++)
		if (ferry_address_equal(&conf->listens[i].address, address) && !is_any_port(address))
			return settings_refuse(reader, "'%s' is already listened on", settings_shown(word));
	return true;
}

/* Any number of lines may have one "systemd:NAME". */
static bool read_where(struct settings_reader *reader, struct conf_listen *listen, const char *word)
{
	static const char systemd[] = "systemd:";
	if (strncmp(word, systemd, sizeof(systemd) - 1) == 0)
		return read_systemd_name(reader, word + sizeof(systemd) - 1, listen);
	return read_address(reader, word, &listen->address) && is_free(reader, &listen->address, word);
}

static bool fill_listen(struct settings_reader *reader, struct conf_listen *listen,
                        const char *const *values)
{
	const char *from = values[0], *mode = values[1], *group = values[2];
	bool has_file = ferry_address_get_path(&listen->address) != NULL;
	if (from != NULL && !listen->proxy_protocol)
		return settings_refuse(reader, "from= is for an address with proxy-protocol");
	if ((mode != NULL || group != NULL) && !has_file)
		return settings_refuse(reader, "mode= and group= are for an address like unix:/path");
	return conf_listen_access(reader, mode, group, &listen->access) &&
	       (from == NULL || read_from(reader, from, &listen->from));
}

/* The number of words without a value: they precede the others, in any order. */
static size_t read_flags(struct conf_listen *listen, char **words, size_t count)
{
	size_t at = 0;
	for (; at < count; at++) {
		bool *flag = NULL;
		if (strcmp(words[at], "proxy-protocol") == 0)
			flag = &listen->proxy_protocol;
		else if (strcmp(words[at], "tls-passthrough") == 0)
			flag = &listen->tls_passthrough;
		if (flag == NULL || *flag)
			break;
		*flag = true;
	}
	return at;
}

static bool add_listen(struct settings_reader *reader, char **words, size_t count)
{
	static const char *const names[] = {"from", "mode", "group", NULL};
	struct conf_keys keys = {.names = names,
	                         .expected = "proxy-protocol, tls-passthrough, from=, mode=, "
	                                     "group="};
	struct conf *conf = reader->target;
	if (conf->listen_count == CONF_LISTENS)
		return settings_refuse(reader, "more than %d addresses", CONF_LISTENS);
	struct conf_listen *listen = &conf->listens[conf->listen_count];
	*listen = (struct conf_listen){.proxy_protocol = false};
	size_t before = 1 + read_flags(listen, words + 1, count - 1);
	if (!read_where(reader, listen, words[0]) ||
	    !conf_words_read_keys(reader, &keys, words + before, count - before))
		return false;
	if (!fill_listen(reader, listen, keys.values)) {
		ferry_proxy_protocol_sources_free(listen->from);
		return false;
	}
	conf->listen_count++;
	return true;
}

bool conf_listen_add(struct settings_reader *reader, char **words, size_t count)
{
	char text[CONF_LINE_MAX], *split[CONF_WORDS_MAX];
	const char *why;
	if (reader->file != NULL)
		return add_listen(reader, words, count);
	/* An option is one argument with all words. */
	if ((size_t)snprintf(text, sizeof(text), "%s", words[0]) >= sizeof(text))
		return settings_refuse(reader, "'%s' is too long", settings_shown(words[0]));
	int parts = conf_words_split(text, split, &why);
	if (parts < 0)
		return settings_refuse(reader, "%s", why);
	return parts > 0 ? add_listen(reader, split, (size_t)parts)
	                 : settings_refuse(reader, "an address is missing");
}

bool conf_listen_admin(struct settings_reader *reader, const char *word)
{
	struct conf *conf = reader->target;
	return read_address(reader, word, &conf->admin);
}
