#ifndef FERRY_HANDOFF_WORKER_ENVIRONMENT_H
#define FERRY_HANDOFF_WORKER_ENVIRONMENT_H

/* The variable by which a started program finds its channel: "FD:PID", both in decimal. The process id keeps programs
 * that the worker starts from taking the channel for theirs. */
#define WORKER_ENVIRONMENT_NAME "FERRY_WORKER"

#endif
