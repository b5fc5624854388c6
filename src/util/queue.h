#ifndef FERRY_UTIL_QUEUE_H
#define FERRY_UTIL_QUEUE_H

/* The lists of sys/queue.h. musl has no such header; the macros below are then those that ferry uses. */

#if __has_include(<sys/queue.h>)
#include <sys/queue.h>
#else

#define LIST_HEAD(name, type)  \
	struct name {              \
		struct type *lh_first; \
	}
#define LIST_ENTRY(type)       \
	struct {                   \
		struct type *le_next;  \
		struct type **le_prev; \
	}
#define LIST_FIRST(head) ((head)->lh_first)
#define LIST_NEXT(item, field) ((item)->field.le_next)
#define LIST_INSERT_HEAD(head, item, field)                           \
	do {                                                              \
		if (((item)->field.le_next = (head)->lh_first) != NULL)       \
			(head)->lh_first->field.le_prev = &(item)->field.le_next; \
		(head)->lh_first = (item);                                    \
		(item)->field.le_prev = &(head)->lh_first;                    \
	} while (0)
#define LIST_REMOVE(item, field)                                          \
	do {                                                                  \
		if ((item)->field.le_next != NULL)                                \
			(item)->field.le_next->field.le_prev = (item)->field.le_prev; \
		*(item)->field.le_prev = (item)->field.le_next;                   \
	} while (0)

#define SLIST_HEAD(name, type)  \
	struct name {               \
		struct type *slh_first; \
	}
#define SLIST_ENTRY(type)      \
	struct {                   \
		struct type *sle_next; \
	}
#define SLIST_FIRST(head) ((head)->slh_first)
#define SLIST_INIT(head) ((void)((head)->slh_first = NULL))
#define SLIST_INSERT_HEAD(head, item, field)        \
	do {                                            \
		(item)->field.sle_next = (head)->slh_first; \
		(head)->slh_first = (item);                 \
	} while (0)
#define SLIST_REMOVE_HEAD(head, field) \
	((void)((head)->slh_first = (head)->slh_first->field.sle_next))

#define STAILQ_HEAD(name, type)  \
	struct name {                \
		struct type *stqh_first; \
		struct type **stqh_last; \
	}
#define STAILQ_ENTRY(type)      \
	struct {                    \
		struct type *stqe_next; \
	}
#define STAILQ_FIRST(head) ((head)->stqh_first)
#define STAILQ_NEXT(item, field) ((item)->field.stqe_next)
#define STAILQ_INIT(head)                        \
	do {                                         \
		(head)->stqh_first = NULL;               \
		(head)->stqh_last = &(head)->stqh_first; \
	} while (0)
#define STAILQ_INSERT_TAIL(head, item, field)         \
	do {                                              \
		(item)->field.stqe_next = NULL;               \
		*(head)->stqh_last = (item);                  \
		(head)->stqh_last = &(item)->field.stqe_next; \
	} while (0)
#define STAILQ_REMOVE_HEAD(head, field)                                         \
	do {                                                                        \
		if (((head)->stqh_first = (head)->stqh_first->field.stqe_next) == NULL) \
			(head)->stqh_last = &(head)->stqh_first;                            \
	} while (0)

#define TAILQ_HEAD(name, type)  \
	struct name {               \
		struct type *tqh_first; \
		struct type **tqh_last; \
	}
#define TAILQ_ENTRY(type)       \
	struct {                    \
		struct type *tqe_next;  \
		struct type **tqe_prev; \
	}
#define TAILQ_FIRST(head) ((head)->tqh_first)
#define TAILQ_NEXT(item, field) ((item)->field.tqe_next)
#define TAILQ_EMPTY(head) ((head)->tqh_first == NULL)
#define TAILQ_LAST(head, name) (*(((struct name *)((head)->tqh_last))->tqh_last))
#define TAILQ_PREV(item, name, field) (*(((struct name *)((item)->field.tqe_prev))->tqh_last))
#define TAILQ_FOREACH(item, head, field) \
	for ((item) = TAILQ_FIRST(head); (item) != NULL; (item) = TAILQ_NEXT(item, field))
#define TAILQ_INIT(head)                       \
	do {                                       \
		(head)->tqh_first = NULL;              \
		(head)->tqh_last = &(head)->tqh_first; \
	} while (0)
#define TAILQ_INSERT_HEAD(head, item, field)                             \
	do {                                                                 \
		if (((item)->field.tqe_next = (head)->tqh_first) != NULL)        \
			(head)->tqh_first->field.tqe_prev = &(item)->field.tqe_next; \
		else                                                             \
			(head)->tqh_last = &(item)->field.tqe_next;                  \
		(head)->tqh_first = (item);                                      \
		(item)->field.tqe_prev = &(head)->tqh_first;                     \
	} while (0)
#define TAILQ_INSERT_TAIL(head, item, field)        \
	do {                                            \
		(item)->field.tqe_next = NULL;              \
		(item)->field.tqe_prev = (head)->tqh_last;  \
		*(head)->tqh_last = (item);                 \
		(head)->tqh_last = &(item)->field.tqe_next; \
	} while (0)
#define TAILQ_INSERT_AFTER(head, before, item, field)                         \
	do {                                                                      \
		if (((item)->field.tqe_next = (before)->field.tqe_next) != NULL)      \
			(item)->field.tqe_next->field.tqe_prev = &(item)->field.tqe_next; \
		else                                                                  \
			(head)->tqh_last = &(item)->field.tqe_next;                       \
		(before)->field.tqe_next = (item);                                    \
		(item)->field.tqe_prev = &(before)->field.tqe_next;                   \
	} while (0)
#define TAILQ_REMOVE(head, item, field)                                      \
	do {                                                                     \
		if ((item)->field.tqe_next != NULL)                                  \
			(item)->field.tqe_next->field.tqe_prev = (item)->field.tqe_prev; \
		else                                                                 \
			(head)->tqh_last = (item)->field.tqe_prev;                       \
		*(item)->field.tqe_prev = (item)->field.tqe_next;                    \
	} while (0)

#endif

#endif
