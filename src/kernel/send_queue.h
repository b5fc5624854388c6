#ifndef FERRY_KERNEL_SEND_QUEUE_H
#define FERRY_KERNEL_SEND_QUEUE_H

/*
 * The send queue of a descriptor: what the kernel has taken from the writer and the other end has not yet taken
 * from the kernel. A change of the queue is progress of the peer long before the descriptor is writable again: a
 * TCP socket only is when a third of its buffer is free, a unix socket when three quarters are.
 */

/*
 * The length of the queue, in a unit of the kernel's: only two lengths of one descriptor can be compared. TCP counts
 * bytes that the peer has not acknowledged, a unix socket the memory of messages that are not read whole, a pipe
 * unread bytes. A negative errno if the kernel does not count (-ENOTTY), or there is no descriptor (-EBADF).
 */
int send_queue_length(int fd);

#endif
