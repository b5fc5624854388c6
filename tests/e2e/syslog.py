"""A syslog server: appends each message that HAProxy's ring sends over TCP to a file, as a line. The messages are
framed by octet counting, RFC 6587.

Usage: syslog.py PORT FILE
"""

import socket
import sys


def messages(connection):
    """The messages of a connection, until it ends."""
    data = b""
    while True:
        length, space, rest = data.partition(b" ")
        if space and len(rest) >= int(length):
            yield rest[:int(length)]
            data = rest[int(length):]
            continue
        more = connection.recv(65536)
        if not more:
            return
        data += more


def main():
    with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as listener, open(sys.argv[2], "ab", buffering=0) as log:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            for message in messages(connection):
                log.write(message.rstrip(b"\n") + b"\n")


main()
