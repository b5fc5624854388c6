#include "programs/shared/settings.h"

#include "programs/shared/program.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

/* The column of the help in the usage. */
enum { HELP_AT = 27 };

/* What getopt_long() returns: its own results are smaller. The settings have the numbers from FIRST on. */
enum { OPTION_HELP = 256, OPTION_VERSION, FIRST };

/* ---- messages ---- */

const char *settings_shown(const char *word)
{
	enum { RING = 4, MOST = 60 };
	static char ring[RING][MOST + 4];
	static unsigned int turn;
	char *out = ring[turn++ % RING];
	size_t length = 0;
	for (; length < MOST && word[length] != '\0'; length++) {
		out[length] = word[length];
		if ((unsigned char)word[length] < ' ' || word[length] == 0x7f)
			out[length] = '?';
	}
	(void)snprintf(out + length, 4, "%s", word[length] != '\0' ? "..." : "");
	return out;
}

bool settings_refuse(struct settings_reader *reader, const char *format, ...)
{
	if (reader->error == NULL || reader->error[0] != '\0')
		return false;
	char *out = reader->error;
	size_t size = SETTINGS_ERROR_SIZE;
	int used = 0;
	if (reader->file != NULL && reader->line > 0)
		used = snprintf(out, size, "%.200s:%u: ", reader->file, reader->line);
	else if (reader->file != NULL)
		used = snprintf(out, size, "%.200s: ", reader->file);
	if (reader->subject != NULL)
		used += snprintf(out + used, size - (size_t)used,
		                 "%s%s: ", reader->file == NULL ? "--" : "", reader->subject);
	va_list arguments;
	va_start(arguments, format);
	(void)vsnprintf(out + used, size - (size_t)used, format, arguments);
	va_end(arguments);
	return false;
}

/* ---- values ---- */

bool settings_read_number(struct settings_reader *reader, const char *word, unsigned long least,
                          unsigned long most, unsigned long *number)
{
	unsigned long value;
	if (!program_number(word, most, &value) || value < least)
		return settings_refuse(reader, "'%s' is not a number from %lu to %lu", settings_shown(word),
		                       least, most);
	*number = value;
	return true;
}

static void set_number(const struct setting *setting, void *member, unsigned long number)
{
	unsigned long milliseconds = setting->kind == SETTING_SECONDS ? 1000 * number : number;
	if (setting->kind == SETTING_NUMBER)
		*(unsigned int *)member = (unsigned int)number;
	else
		*(struct timeval *)member =
		    (struct timeval){.tv_sec = (time_t)(milliseconds / 1000),
		                     .tv_usec = (suseconds_t)(milliseconds % 1000 * 1000)};
}

static bool read_setting(struct settings_reader *reader, const struct setting *setting,
                         char **words, size_t count)
{
	void *member = (char *)reader->target + setting->member;
	unsigned long number = 0;
	if (count == 0 && setting->kind != SETTING_FLAG)
		return settings_refuse(reader, "%s is missing", setting->what);
	if (count > 1 && setting->kind != SETTING_WORDS)
		return settings_refuse(reader, "one argument is expected, %s, not %zu", setting->what,
		                       count);
	switch (setting->kind) {
	case SETTING_WORDS:
		return setting->read(reader, words, count);
	case SETTING_WORD:
		return setting->check(reader, words[0]);
	case SETTING_TEXT:
		if (setting->check != NULL && !setting->check(reader, words[0]))
			return false;
		*(const char **)member = words[0];
		return true;
	case SETTING_FLAG:
		*(bool *)member = true;
		return true;
	default:
		if (!settings_read_number(reader, words[0], setting->least, setting->most, &number))
			return false;
		set_number(setting, member, number);
		return true;
	}
}

/* The place in the table, or its size. */
static size_t find_setting(const struct settings *settings, const char *name, unsigned int is)
{
	size_t i = 0;
	while (i < settings->count &&
	       ((settings->all[i].is & is) == 0 || strcmp(settings->all[i].name, name) != 0))
		i++;
	return i;
}

bool settings_has_option(const struct settings_reader *reader, const char *name)
{
	return reader->by_option[find_setting(reader->settings, name, SETTING_OPTION)];
}

void settings_replace_directive(struct settings_reader *reader, const char *name)
{
	reader->by_option[find_setting(reader->settings, name, SETTING_DIRECTIVE)] = true;
}

unsigned int settings_find_line(const struct settings_reader *reader, const char *name)
{
	return reader->lines[find_setting(reader->settings, name, SETTING_DIRECTIVE)];
}

/* ---- a file ---- */

static bool refuse_directive(struct settings_reader *reader, const char *word)
{
	char names[SETTINGS_ERROR_SIZE] = "";
	size_t used = 0;
	for (size_t i = 0; i < reader->settings->count && used < sizeof(names); i++)
		if (reader->settings->all[i].is & SETTING_DIRECTIVE)
			used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
			                         used > 0 ? ", " : "", reader->settings->all[i].name);
	return settings_refuse(reader, "'%s' is not a directive; expected is %s", settings_shown(word),
	                       names);
}

bool settings_read_directive(struct settings_reader *reader, char **words, size_t count)
{
	size_t i = find_setting(reader->settings, words[0], SETTING_DIRECTIVE);
	if (i == reader->settings->count)
		return refuse_directive(reader, words[0]);
	const struct setting *setting = &reader->settings->all[i];
	reader->subject = setting->name;
	if (reader->lines[i] > 0 && (setting->is & SETTING_REPEATED) == 0)
		return settings_refuse(reader, "is already in line %u", reader->lines[i]);
	if (reader->lines[i] == 0)
		reader->lines[i] = reader->line;
	return reader->by_option[i] || read_setting(reader, setting, words + 1, count - 1);
}

/* ---- the command line ---- */

static void print_option(const char *name, const char *argument, const char *help)
{
	int width = printf(argument != NULL ? "  --%s %s" : "  --%s", name, argument);
	if (width > HELP_AT - 2) {
		putchar('\n');
		width = 0;
	}
	while (*help != '\0') {
		size_t length = strcspn(help, "\n");
		printf("%*s%.*s\n", HELP_AT - width, "", (int)length, help);
		help += length + (help[length] == '\n');
		width = 0;
	}
}

static void print_usage(const struct settings *settings)
{
	printf("%s\n", settings->synopsis);
	print_option("help", NULL, "show this");
	print_option("version", NULL, "show the version");
	for (size_t i = 0; i < settings->count; i++) {
		const struct setting *setting = &settings->all[i];
		if (setting->name == NULL)
			printf("\n%s:\n", setting->help);
		else if (setting->is & SETTING_OPTION)
			print_option(setting->name, setting->argument, setting->help);
	}
	printf("\n%s", settings->notes);
}

static void fill_options(const struct settings *settings, struct option *options)
{
	*options++ = (struct option){"help", no_argument, NULL, OPTION_HELP};
	*options++ = (struct option){"version", no_argument, NULL, OPTION_VERSION};
	for (size_t i = 0; i < settings->count; i++)
		if (settings->all[i].is & SETTING_OPTION)
			*options++ = (struct option){
			    settings->all[i].name, settings->all[i].kind != SETTING_FLAG, NULL, FIRST + (int)i};
	*options = (struct option){NULL, 0, NULL, 0};
}

static const char *option_name(const struct option *options, int value)
{
	while (options->val != value)
		options++;
	return options->name;
}

/* `last` is the argument that getopt_long() has looked at. */
static bool refuse_option(struct settings_reader *reader, const struct option *options, int result,
                          const char *last)
{
	if (result == ':')
		return settings_refuse(reader, "--%s: an argument is missing",
		                       option_name(options, optopt));
	if (optopt >= OPTION_HELP)
		return settings_refuse(reader, "--%s takes no argument", option_name(options, optopt));
	if (optopt != 0)
		return settings_refuse(reader, "'-%c' is not an option; see --help", optopt);
	return settings_refuse(reader, "'%s' is not an option; see --help", settings_shown(last));
}

static bool read_option(struct settings_reader *reader, size_t i)
{
	const struct setting *setting = &reader->settings->all[i];
	reader->subject = setting->name;
	if (reader->by_option[i] && (setting->is & SETTING_REPEATED) == 0)
		return settings_refuse(reader, "is given twice");
	reader->by_option[i] = true;
	bool fine = read_setting(reader, setting, &optarg, optarg != NULL);
	reader->subject = NULL;
	return fine;
}

enum settings_result settings_read_options(struct settings_reader *reader, int argc, char **argv)
{
	struct option options[SETTINGS_MAX + 3];
	int result;
	fill_options(reader->settings, options);
	optind = 0; /* glibc: start anew, although arguments were read before */
	opterr = 0;
	/* '+': the arguments keep their order. */
	while ((result = getopt_long(argc, argv, "+:", options, NULL)) != -1) {
		if (result == OPTION_HELP)
			print_usage(reader->settings);
		if (result == OPTION_VERSION)
			program_print_version(reader->settings->program);
		if (result == OPTION_HELP || result == OPTION_VERSION)
			return SETTINGS_ANSWERED;
		if (result < FIRST) {
			refuse_option(reader, options, result, argv[optind - 1]);
			return SETTINGS_BAD;
		}
		if (!read_option(reader, (size_t)(result - FIRST)))
			return SETTINGS_BAD;
	}
	if (optind == argc || strcmp(argv[optind - 1], "--") == 0)
		return SETTINGS_READ;
	settings_refuse(reader, "'%s' is one argument too many; see --help",
	                settings_shown(argv[optind]));
	return SETTINGS_BAD;
}
