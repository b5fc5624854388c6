"""The requests of a browser to proxy and worker: files, parts of files, and refusals."""

import concurrent.futures
import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import time
import unittest

import harness


class Files(harness.ServerCase):
    options = {"workers": 2}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bytes = random.Random(1).randbytes(3 * 1024 * 1024 + 17)
        cls.server.put("big.bin", cls.bytes)
        cls.server.put("index.html", b"<p>hello\n")
        cls.server.put("empty.txt", b"")
        cls.server.put("a b/\xe4.txt", b"umlaut")
        cls.server.put("sub/index.html", b"sub")
        cls.server.put("bare/file.txt", b"x")

    def test_a_whole_file_arrives(self):
        answer = self.server.ask("/big.bin")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.version, "HTTP/1.1")
        self.assertEqual(answer.fields["content-type"], "application/octet-stream")
        self.assertIn("date", answer.fields)
        self.assertEqual(answer.body, self.bytes)

    @unittest.skipUnless(shutil.which("curl"), "no curl")
    def test_curl_gets_the_same_sha256(self):
        output = subprocess.run(
            ["curl", "-sS", "--fail", f"http://127.0.0.1:{self.server.port}/big.bin"],
            check=True, stdout=subprocess.PIPE, timeout=harness.DEADLINE).stdout
        self.assertEqual(hashlib.sha256(output).hexdigest(),
                         hashlib.sha256(self.bytes).hexdigest())

    def test_an_empty_file_is_an_empty_answer(self):
        with self.server.client() as client:
            self.assertEqual(client.ask("/empty.txt").fields["content-length"], "0")
            self.assertEqual(client.ask("/index.html").body, b"<p>hello\n")

    def test_head_has_the_fields_of_get_and_no_body(self):
        with self.server.client() as client:
            head = client.ask("/big.bin", method="HEAD")
            get = client.ask("/big.bin")
        for name in ("content-length", "content-type", "etag", "last-modified"):
            self.assertEqual(head.fields[name], get.fields[name])

    def test_ranges(self):
        size = len(self.bytes)
        for value, first, last in (("0-0", 0, 0), ("5-9", 5, 9), (f"{size - 5}-", size - 5, size - 1),
                                   ("-7", size - 7, size - 1), (f"9-{size * 2}", 9, size - 1),
                                   ("65536-1048575", 65536, 1048575)):
            with self.subTest(value):
                answer = self.server.ask("/big.bin", f"Range: bytes={value}")
                self.assertEqual(answer.status, 206)
                self.assertEqual(answer.fields["content-range"], f"bytes {first}-{last}/{size}")
                self.assertEqual(answer.body, self.bytes[first:last + 1])

    def test_an_unsatisfiable_range_is_416_with_the_size(self):
        answer = self.server.ask("/big.bin", f"Range: bytes={len(self.bytes)}-")
        self.assertEqual(answer.status, 416)
        self.assertEqual(answer.fields["content-range"], f"bytes */{len(self.bytes)}")

    def test_several_ranges_are_answered_whole(self):
        self.assertEqual(self.server.ask("/big.bin", "Range: bytes=0-1,5-6").status, 200)

    def test_what_the_client_has_is_not_sent_again(self):
        with self.server.client() as client:
            first = client.ask("/big.bin")
            for field in (f"If-None-Match: {first.fields['etag']}",
                          f"If-Modified-Since: {first.fields['last-modified']}"):
                answer = client.ask("/big.bin", field)
                self.assertEqual(answer.status, 304)
                self.assertNotIn("content-length", answer.fields)
                self.assertEqual(answer.fields["etag"], first.fields["etag"])
            self.assertEqual(client.ask("/big.bin", 'If-None-Match: "other"').status, 200)

    def test_a_part_of_another_version_is_sent_whole(self):
        self.assertEqual(self.server.ask("/big.bin", "Range: bytes=0-1", 'If-Range: "x"').status, 200)

    def test_paths_are_decoded(self):
        self.assertEqual(self.server.ask("/a%20b/%C3%A4.txt?query").body, b"umlaut")
        self.assertEqual(self.server.ask("http://other/a%20b/%c3%a4.txt").body, b"umlaut")

    def test_a_directory_is_its_index_or_a_slash_away_or_forbidden(self):
        self.assertEqual(self.server.ask("/").body, b"<p>hello\n")
        self.assertEqual(self.server.ask("/").fields["content-type"], "text/html; charset=utf-8")
        self.assertEqual(self.server.ask("/sub/").body, b"sub")
        answer = self.server.ask("/sub?q=1")
        self.assertEqual((answer.status, answer.fields["location"]), (301, "/sub/?q=1"))
        self.assertEqual(self.server.ask("//sub").fields["location"], "/sub/")
        self.assertEqual(self.server.ask("/bare/").status, 403)

    def test_what_is_not_there_is_404(self):
        with self.server.client() as client:
            for target in ("/none", "/index.html/", "/index.html/x", "/a%2fb", "/" + "x" * 300):
                self.assertEqual(client.ask(target).status, 404, target)
            self.assertEqual(client.ask("/").status, 200)

    def test_bad_escapes_are_400(self):
        for target in ("/%", "/%zz", "/a%00"):
            self.assertEqual(self.server.ask(target).status, 400, target)

    def test_keep_alive_carries_many_requests(self):
        with self.server.client() as client:
            for _ in range(50):
                self.assertEqual(client.ask("/index.html").body, b"<p>hello\n")

    def test_connection_close_closes(self):
        with self.server.client() as client:
            answer = client.ask("/", "Connection: close")
            self.assertEqual(answer.fields["connection"], "close")
            self.assertTrue(client.at_end())
            self.assertEqual(client.input, b"")

    def test_bytes_behind_the_last_request_do_not_cost_the_answer(self):
        """A close with something unread would reset the connection, and the client would lose what it has not read."""
        with self.server.client() as client:
            client.send("GET /big.bin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            client.send("x" * 300000)
            self.assertEqual(client.read_answer().body, self.bytes)
            self.assertTrue(client.at_end())

    def test_http_1_0_closes_unless_asked_not_to(self):
        with self.server.client() as client:
            client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            self.assertEqual(client.read_answer().fields["connection"], "keep-alive")
            client.send("GET / HTTP/1.0\r\n\r\n")
            self.assertEqual(client.read_answer().body, b"<p>hello\n")
            self.assertTrue(client.at_end())

    def test_pipelined_requests_are_answered_in_order(self):
        with self.server.client() as client:
            requests = ["GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n",
                        "GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n",
                        "HEAD /big.bin HTTP/1.1\r\nHost: a\r\n\r\n",
                        "GET /none HTTP/1.1\r\nHost: a\r\n\r\n",
                        "GET /sub/ HTTP/1.1\r\nHost: a\r\n\r\n"]
            client.send("".join(requests))
            self.assertEqual(client.read_answer().body, b"<p>hello\n")
            self.assertEqual(client.read_answer().body, self.bytes)
            self.assertEqual(client.read_answer(head_only=True).status, 200)
            self.assertEqual(client.read_answer().status, 404)
            self.assertEqual(client.read_answer().body, b"sub")

    def test_a_client_may_end_its_half_after_its_requests(self):
        with self.server.client() as client:
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            client.socket.shutdown(socket.SHUT_WR)
            for _ in range(3):
                self.assertEqual(client.read_answer().body, b"<p>hello\n")
            self.assertTrue(client.at_end())

    def test_who_reads_no_answers_is_not_read_from(self):
        """Each answer has 3 MB: the worker reads the next request only after an answer was sent."""
        request = b"GET /big.bin HTTP/1.1\r\nHost: a\r\n\r\n"
        with self.server.client() as client:
            client.ask("/")
            client.socket.setblocking(False)
            sent = 0
            quiet = 0
            while quiet < 20:  # the buffers of both sockets stay full
                try:
                    sent += client.socket.send(request * 1000)
                    quiet = 0
                except BlockingIOError:
                    quiet += 1
                    time.sleep(0.02)
            for worker in self.server.workers:
                self.assertLess(worker.memory_kib("VmRSS"), memory_bound())
            client.socket.settimeout(harness.DEADLINE)
            for _ in range(3):
                self.assertEqual(client.read_answer().body, self.bytes)

    def test_a_request_may_come_byte_by_byte(self):
        with self.server.client() as client:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2:
                client.send(bytes([byte]))
            for _ in range(2):
                self.assertEqual(client.read_answer().body, b"<p>hello\n")

    def test_many_clients_at_once(self):
        def fetch(index):
            first = index * 1000
            answer = self.server.ask("/big.bin", f"Range: bytes={first}-")
            return answer.body == self.bytes[first:]
        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            self.assertTrue(all(pool.map(fetch, range(200))))


class Choice(harness.ServerCase):
    """A server of its own: the connections of other tests may still be with a worker, or with the proxy's books."""

    options = {"workers": 3}

    def test_answers_go_out_of_the_worker_with_the_fewest_connections(self):
        with contextlib.ExitStack() as stack:
            for count in ([0, 0, 1], [0, 1, 1], [1, 1, 1]):
                stack.enter_context(self.server.client()).ask("/none")
                self.assertEqual(sorted(connection_count(worker) for worker in self.server.workers), count)


class Refusals(harness.ServerCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        (cls.server.directory / "secret.txt").write_text("secret")
        cls.server.put("index.html", b"hello")
        cls.server.put("sub/x.txt", b"x")
        root = cls.server.root
        (root / "out").symlink_to(cls.server.directory / "secret.txt")
        (root / "up").symlink_to("../secret.txt")
        (root / "etc").symlink_to("/etc")
        (root / "in").symlink_to("sub/x.txt")
        os.mkfifo(root / "fifo")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(root / "sock"))

    def test_nothing_leads_out_of_the_root(self):
        with self.server.client() as client:
            for target in ("/../secret.txt", "/%2e%2e/secret.txt", "/sub/../../secret.txt",
                           "/sub/%2E%2E/%2e./secret.txt", "/out", "/up", "/etc/passwd",
                           "//../secret.txt", "/./../secret.txt", "http://a/../secret.txt"):
                answer = client.ask(target)
                self.assertEqual(answer.status, 403, target)
                self.assertNotIn(b"secret\n", answer.body + b"\n")
            self.assertEqual(client.ask("/..%2fsecret.txt").status, 404)
            self.assertEqual(client.ask("/sub/../index.html").body, b"hello")
            self.assertEqual(client.ask("/in").body, b"x")

    def test_what_is_no_file_is_refused_without_waiting(self):
        with self.server.client() as client:
            self.assertEqual(client.ask("/fifo").status, 403)
            self.assertEqual(client.ask("/sock").status, 403)

    @unittest.skipIf(os.geteuid() == 0, "root may read everything")
    def test_what_may_not_be_read_is_403(self):
        self.server.put("closed.txt", b"x").chmod(0)
        self.assertEqual(self.server.ask("/closed.txt").status, 403)

    def test_other_methods(self):
        with self.server.client() as client:
            answer = client.ask("/", "Content-Length: 0", method="POST")
            self.assertEqual((answer.status, answer.fields["allow"]), (405, "GET, HEAD"))
            self.assertEqual(client.ask("/", method="BREW").status, 501)
            self.assertEqual(client.ask("*", method="OPTIONS").status, 405)
            self.assertEqual(client.ask("/").status, 200)

    def test_a_body_is_never_taken_for_a_request(self):
        inner = "GET /index.html HTTP/1.1\r\nHost: a\r\n\r\n"
        for field, body in ((f"Content-Length: {len(inner)}", inner),
                            ("Transfer-Encoding: chunked", f"{len(inner):x}\r\n{inner}\r\n0\r\n\r\n")):
            for method, status in (("POST", 405), ("GET", 413)):
                with self.subTest(field=field, method=method), self.server.client() as client:
                    client.send(f"{method} / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{body}")
                    answer = client.read_answer()
                    self.assertEqual((answer.status, answer.fields["connection"]), (status, "close"))
                    self.assertTrue(client.at_end())
                    self.assertEqual(client.input, b"")

    def test_an_answer_is_read_although_the_client_goes_on_sending(self):
        """A close with unread input would reset the connection, and lose the answer."""
        with self.server.client() as client:
            client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
            client.send(b"x" * 200000)
            self.assertEqual(client.read_answer().status, 405)
            client.socket.shutdown(socket.SHUT_WR)
            self.assertTrue(client.at_end())

    def test_garbage_is_400(self):
        for garbage in (b"\x16\x03\x01\x02\x00\x01\x00", b"\0", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
                        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\n\n", b"{}\r\n\r\n"):
            with self.subTest(garbage), self.server.client() as client:
                client.send(garbage)
                self.assertEqual(client.read_answer().status, 400)
                client.socket.shutdown(socket.SHUT_WR)
                self.assertTrue(client.at_end())

    def test_garbage_after_a_request_is_400(self):
        with self.server.client() as client:
            client.ask("/")
            client.send("\x16\x03\x01")
            answer = client.read_answer()
            self.assertEqual((answer.status, answer.fields["connection"]), (400, "close"))
            self.assertTrue(client.at_end())

    def test_another_version_is_505(self):
        with self.server.client() as client:
            client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            self.assertEqual(client.read_answer().status, 505)

    def test_a_head_beyond_8_kib_is_431(self):
        for first in (0, 1):  # at the proxy, and at the worker on a kept connection
            with self.subTest(first), self.server.client() as client:
                for _ in range(first):
                    client.ask("/")
                client.send("GET / HTTP/1.1\r\nHost: a\r\nX: " + "x" * 100000)
                self.assertEqual(client.read_answer().status, 431)
                client.socket.shutdown(socket.SHUT_WR)
                self.assertTrue(client.at_end())

    def test_a_head_of_8_kib_is_served(self):
        head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
        with self.server.client() as client:
            for _ in range(2):
                client.send(head + b"x" * (8192 - len(head) - 4) + b"\r\n\r\n")
                self.assertEqual(client.read_answer().body, b"hello")


class Filled(harness.ServerCase):
    """The longest answers without a file. The first request of a connection is answered on the bare socket."""

    line = b"{{connection.attempt}} " + b"x" * 100 + b"\n"
    options = {"worker": ("--fill", "long.html")}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.put("long.html", cls.line * 2000)
        cls.page = cls.line.replace(b"{{connection.attempt}}", b"1") * 2000

    def open(self):
        """A client whose socket has room for little: the worker cannot send the page at once."""
        client = harness.Client(self.server.port)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return client

    def test_a_long_answer_to_the_first_request_is_whole(self):
        with self.open() as client:
            self.assertEqual(client.ask("/long.html", "Connection: close").body, self.page)
            client.at_end()
            self.assertEqual(client.input, b"")

    def test_the_connection_goes_on_behind_a_long_answer(self):
        with self.open() as client:
            for _ in range(3):
                self.assertEqual(client.ask("/long.html").body, self.page)

    def test_requests_behind_the_first_one_are_answered(self):
        with self.open() as client:
            client.send("GET /long.html HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
            for _ in range(3):
                self.assertEqual(client.read_answer().body, self.page)

    def test_a_client_that_leaves_in_the_middle_leaves_nothing_open(self):
        with self.open() as client:
            client.send("GET /long.html HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()


class Truncation(harness.ServerCase):
    def test_a_file_that_shrinks_while_it_is_sent_breaks_the_connection(self):
        size = 64 * 1024 * 1024
        path = self.server.root / "shrinking"
        with open(path, "wb") as file:
            file.truncate(size)
        with self.server.client() as client:
            client.send("GET /shrinking HTTP/1.1\r\nHost: a\r\n\r\n")
            client.read_head()
            os.truncate(path, 1024)
            received = len(client.input)
            with self.assertRaises(ConnectionResetError):
                while True:
                    data = client.socket.recv(1 << 20)
                    self.assertTrue(data, "a clean end would pass for a whole file")
                    received += len(data)
            self.assertLess(received, size)
        self.server.put("next", b"next")
        self.assertEqual(self.server.ask("/next").body, b"next")


class Abandoned(harness.ServerCase):
    """An answer that cannot be given, or not to its end: a client that reads up to the end must be able to tell. The
    first request of a connection is answered on the bare socket."""

    options = {"worker": ("--fill", "/huge.html")}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.put("huge.html", bytes(262145))  # no page is so long
        cls.server.put("next", b"next")

    def expect_reset(self, client):
        client.send("GET /huge.html HTTP/1.1\r\nHost: a\r\n\r\n")
        with self.assertRaises(ConnectionResetError):
            client.at_end()
        self.assertEqual(client.input, b"")

    def test_the_connection_is_reset_after_the_first_request(self):
        with self.server.client() as client:
            self.expect_reset(client)

    def test_the_connection_is_reset_after_a_later_request(self):
        with self.server.client() as client:
            self.assertEqual(client.ask("/next").body, b"next")
            self.expect_reset(client)


def memory_bound():
    """The limit of the resident memory of a worker, in KiB; sanitizers need more."""
    return 10 ** 9 if harness.INSTRUMENTED else 32 * 1024


def connection_count(worker):
    """The number of clients: the sockets other than the channel to the proxy. /proc/net/tcp would omit some of them
    while other sockets come and go."""
    return sum(link.startswith("socket:[") for link in harness.open_files(worker.pid).values()) - 1


if __name__ == "__main__":
    unittest.main()
