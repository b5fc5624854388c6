#ifndef FERRY_UPGRADE_INHERITANCE_H
#define FERRY_UPGRADE_INHERITANCE_H

/*
 * The descriptors that a successor inherits, and the variable by which it knows that they are there: FERRY_UPGRADE has
 * the successor's process id, which its predecessor's fork sets. A program that the successor starts may inherit the
 * variable, and is not taken for a successor.
 */

enum {
	INHERITANCE_CHANNEL = 3,      /* a unix stream socket to the predecessor */
	INHERITANCE_ERROR_OUTPUT = 4, /* the predecessor's standard error */
	INHERITANCE_CAPTURE = 5 /* the reading end of the pipe that is the successor's standard error */
};

#define INHERITANCE_VARIABLE "FERRY_UPGRADE"

/* Removes the variable, and makes the descriptors close-on-exec. 0; -ENOENT: no predecessor has started this process;
 * -EPROTO: a descriptor is missing, or not what it should be. */
int inheritance_read(void);

/* Closes the descriptors but the channel. */
void inheritance_close(void);

#endif
