/* The calls and allocations of a run as one sequence. */

#include <pthread.h>
#include <string.h>

#include "faulty.h"
#include "heap.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* a thread of the library calls too */
static bool running;
static struct planned_fault plan[FAULTS_MAX], fired[FAULTS_MAX];
static unsigned int planned, fired_count;
static unsigned int length, counts[CALL_COUNT];
static unsigned char calls[SEQUENCE_MAX];

static int fault_of(enum call call)
{
	for (unsigned int i = 0; i < planned; i++)
		if (plan[i].call == call && plan[i].number == counts[call]) {
			fired[fired_count++] = plan[i];
			return plan[i].error;
		}
	return 0;
}

int next_in_sequence(enum call call)
{
	int fault = 0;

	pthread_mutex_lock(&lock);
	if (running) {
		if (length < SEQUENCE_MAX)
			calls[length] = (unsigned char)call;
		length++;
		counts[call]++;
		fault = fault_of(call);
	}
	pthread_mutex_unlock(&lock);
	return fault;
}

static bool allocation_fails(void)
{
	return next_fault(CALL_ALLOCATION) > 0;
}

void plan_faults(const struct planned_fault *faults, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		plan[i] = faults[i];
	planned = count;
	fired_count = length = 0;
	memset(counts, 0, sizeof(counts));
	running = true;
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

unsigned int fired_faults(struct planned_fault found[FAULTS_MAX])
{
	memcpy(found, fired, sizeof(fired));
	return fired_count;
}
