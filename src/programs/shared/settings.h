#ifndef FERRY_PROGRAMS_SHARED_SETTINGS_H
#define FERRY_PROGRAMS_SHARED_SETTINGS_H

/* The settings of a program: the options of its command line, and the directives of its file. One table has the names,
 * the arguments, the limits and the help of them; the reading, the messages and the usage follow from it.
 *
 * Every refusal is one line of text with the place, the word and the expected value:
 *
 *     ferry-proxy.conf:12: queue: '0' is not a number from 1 to 1000000
 *     --queue: '0' is not a number from 1 to 1000000 */

#include <stdbool.h>
#include <stddef.h>

struct settings_reader;

enum { SETTINGS_MAX = 64, SETTINGS_ERROR_SIZE = 512 };

enum setting_kind {
	SETTING_WORDS,        /* `read` gets any number of words but none */
	SETTING_WORD,         /* `check` gets the argument, and does the rest */
	SETTING_TEXT,         /* const char *; it points to the argument, which is not copied */
	SETTING_FLAG,         /* bool; it takes no argument */
	SETTING_NUMBER,       /* unsigned int */
	SETTING_SECONDS,      /* struct timeval */
	SETTING_MILLISECONDS, /* struct timeval */
};

enum {
	SETTING_OPTION = 1,
	SETTING_DIRECTIVE = 2,
	SETTING_REPEATED = 4 /* it may be given more than once */
};

struct setting {
	const char *name; /* NULL: `help` is the heading of the settings that follow */
	unsigned int is;  /* flags */
	enum setting_kind kind;
	const char *argument;      /* for the usage */
	const char *what;          /* the argument in a message: "a number of seconds" */
	size_t member;             /* its offset in the target */
	unsigned long least, most; /* of a number */
	bool (*check)(struct settings_reader *reader, const char *word); /* of a text: may be NULL */
	bool (*read)(struct settings_reader *reader, char **words, size_t count);
	const char *help; /* lines of 72 bytes at most; NULL: the usage has none */
};

struct settings {
	const char *program;
	const char *synopsis; /* the usage before the options, from "usage: " on */
	const char *notes;    /* the usage behind them */
	const struct setting *all;
	size_t count; /* fewer than SETTINGS_MAX */
};

/* The first four are the caller's to set; the others are zero at first. */
struct settings_reader {
	const struct settings *settings;
	void *target;  /* the struct with the members */
	void *context; /* for `check` and `read` */
	char *error;   /* SETTINGS_ERROR_SIZE bytes for the first refusal, and empty; or NULL */

	/* The present place. */
	const char *file;    /* NULL: the command line */
	unsigned int line;   /* of the file; 0: the file as a whole */
	const char *subject; /* the setting; NULL: the line, or the command line */

	bool by_option[SETTINGS_MAX];     /* an option replaces the directive */
	unsigned int lines[SETTINGS_MAX]; /* the line where each directive stood first; 0: nowhere */
};

/* The result of reading a command line. */
enum settings_result {
	SETTINGS_READ,
	SETTINGS_ANSWERED, /* --help or --version was printed */
	SETTINGS_BAD       /* the reader has the error */
};

/* Reads the options before "--". --help and --version need not be in the table. */
enum settings_result settings_read_options(struct settings_reader *reader, int argc, char **argv);

/* Reads a directive and its arguments; `words` has `count` of them, one at least. A directive that an option replaces is
 * checked no further. False: the reader has the error. */
bool settings_read_directive(struct settings_reader *reader, char **words, size_t count);

/* Whether an option of that name was given. */
bool settings_has_option(const struct settings_reader *reader, const char *name);

/* Uses this option in place of the directive, although it was not given. */
void settings_replace_directive(struct settings_reader *reader, const char *name);

/* The line of the first directive of that name; 0: there is none. */
unsigned int settings_find_line(const struct settings_reader *reader, const char *name);

/* Writes the place and the message to `error`, unless there is one already. Returns false. */
__attribute__((format(printf, 2, 3))) bool settings_refuse(struct settings_reader *reader,
                                                           const char *format, ...);

/* A word as a message may contain it: cut, and without control characters. The text is one of a ring of four
 * buffers. */
const char *settings_shown(const char *word);

/* Reads a decimal number without a sign. False: `word` is none, or is out of range. */
bool settings_read_number(struct settings_reader *reader, const char *word, unsigned long least,
                          unsigned long most, unsigned long *number);

#endif
