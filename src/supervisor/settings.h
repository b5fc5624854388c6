#ifndef FERRY_SUPERVISOR_SETTINGS_H
#define FERRY_SUPERVISOR_SETTINGS_H

struct ferry_supervisor_options;
struct settings;

/* The number of the channel in the program. */
enum { SETTINGS_CHANNEL = 3 };

/* Copies options that are the right size, and checks them. The errors of ferry_supervisor_new(). */
int settings_copy(struct settings *out, const struct ferry_supervisor_options *options);

/* 0, -EINVAL or -ENOMEM. */
int settings_set_argv(struct settings *settings, const char *const *argv);

/* The errors of ferry_supervisor_set_standard_fd(). */
int settings_set_standard_fd(struct settings *settings, int number, int fd);

void settings_clear(struct settings *settings);

#endif
