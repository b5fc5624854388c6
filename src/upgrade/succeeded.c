#include "upgrade/succeeded.h"

#include <sys/socket.h>

void succeeded_send(int token)
{
	(void)!send(token, "R", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool succeeded_look(int token)
{
	char byte;

	return recv(token, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 1;
}
