#ifndef FERRY_RELAY_ENDING_H
#define FERRY_RELAY_ENDING_H

#include "relay/fields.h"

/* Stops the end's reading for this reason too, or no longer. -ENOMEM: it cannot be resumed, and stays paused. */
void relay_pause(struct relay_end *end, enum relay_pause why);
int relay_resume(struct relay_end *end, enum relay_pause why);

/* The other end takes no more. The peer finds that out when it writes, as it would directly; what it has sent is
 * dropped. A pause in its place could be for ever: both ends may be full, and broken. */
void relay_mute(struct relay_end *end);

/* From now on the close timeout runs. */
void relay_note_closing(struct ferry_relay *relay);

/* The peer of `end` sends no more: passes that on, once there is a server. Calls the user. */
void relay_pass_end(struct relay_end *end);

/* The connection of `end` is over: passes that on, once there is a server; or ends the relay. Calls the user. */
void relay_pass_loss(struct relay_end *end);

/* Whether the end waits until its peer has all, to be aborted. Aborts it if the peer has, or takes nothing for a time. */
bool relay_is_resetting(struct relay_end *end, int64_t now);

/* Ends the relay if neither connection is left: both are over, or there never was a server, and the owner ends it.
 * Calls the user. */
void relay_settle(struct ferry_relay *relay);

/* Aborts both connections. connection_lost follows for both, and then the relay ends, with the first reason. */
void relay_abort(struct ferry_relay *relay, enum ferry_relay_side side, int reason);

/* Ends both connections when all is sent. */
void relay_close(struct ferry_relay *relay);

/* Frees the relay; its memory goes from the loop. */
void relay_free(struct ferry_relay *relay);

#endif
