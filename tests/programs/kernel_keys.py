"""A dispatcher of somebody else's has made the handshake, the kernel has the keys, and the worker gets clear text."""

import os
import pathlib
import socket
import sys
import tempfile
import types
import unittest

import harness

sys.path.append(str(pathlib.Path(__file__).parent.parent / "conformance"))
import kit  # noqa: E402

# The library of kernel_keys.c, whose path may have blanks: LD_PRELOAD may not. The shell gives the worker its process
# id, which FERRY_WORKER has.
WORKER = ["sh", "-c", 'LD_LIBRARY_PATH="${0%/*}" LD_PRELOAD="${0##*/}" FERRY_WORKER="$3:$$" exec "$1" --root "$2"',
          os.environ["FERRY_KERNEL_KEYS"], harness.BIN / "ferry-worker"]


class Answers(unittest.TestCase):
    def test_an_answer_ends_with_close_notify(self):
        root = self.enterContext(tempfile.TemporaryDirectory(prefix="ferry-e2e-"))
        pathlib.Path(root, "file").write_bytes(b"content")
        dispatcher = kit.Dispatcher([*WORKER, root])
        self.addCleanup(dispatcher.close)
        dispatcher.send_hello()
        for head in (b"GET /file HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", b"GET /file HTTP/1.0\r\n\r\n"):
            listener = self.enterContext(socket.create_server(("127.0.0.1", 0)))
            end = self.enterContext(socket.create_connection(listener.getsockname(), harness.DEADLINE))
            server = listener.accept()[0]
            dispatcher.hand_off(types.SimpleNamespace(server=server, cookie=kit.cookie_of(server)), data=head)
            received = b"".join(iter(lambda: end.recv(65536), b""))
            self.assertRegex(received, rb"\AHTTP/1.1 200 (?s:.*)\r\n\r\ncontent\x01\0\Z")


if __name__ == "__main__":
    unittest.main()
