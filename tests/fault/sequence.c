/* The calls and allocations of a run as one sequence. */

#include <pthread.h>
#include <string.h>

#include "faulty.h"
#include "heap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a thread of the library calls too */
static bool running;
static struct planned_fault plan[FAULTS_MAX];
static unsigned int planned;
static struct fired_fault fired[FAULTS_MAX];
static unsigned int fired_count;
static unsigned int length;
static unsigned char calls[SEQUENCE_MAX];

static int error_of(enum call call, unsigned int variant)
{
	const int *errors = call_errors(call);
	unsigned int count = 1; /* each call has one */
	while (errors[count] != 0)
		count++;
	return errors[variant % count];
}

int next_in_sequence(enum call call)
{
	int error = 0;

	pthread_mutex_lock(&lock);
	if (running) {
		if (length < SEQUENCE_MAX)
			calls[length] = (unsigned char)call;
		length++;
		if (fired_count < planned && length == plan[fired_count].number) {
			error = error_of(call, plan[fired_count].variant);
			fired[fired_count++] = (struct fired_fault){call, error};
		}
	}
	pthread_mutex_unlock(&lock);
	return error;
}

static bool allocation_fails(void)
{
	return next_fault(CALL_ALLOCATION) > 0;
}

void plan_sequence(const struct planned_fault *faults, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		plan[i] = faults[i];
	planned = count;
	fired_count = length = 0;
	running = true;
	plan_fault(CALL_NONE, 0, 0);
	heap_ask(allocation_fails);
}

unsigned int end_sequence(void)
{
	running = false;
	heap_ask(NULL);
	return length;
}

enum call sequence_call(unsigned int number)
{
	return (enum call)calls[number - 1];
}

unsigned int fired_faults(struct fired_fault found[FAULTS_MAX])
{
	memcpy(found, fired, sizeof(fired));
	return fired_count;
}
