"""Real balancers in front of the proxy, which reuse connections for requests of several hosts and paths: HAProxy with
http-reuse and the PROXY protocol, nginx with keepalive. No answer comes from the wrong site.

FERRY_FRONT_REQUESTS is the number of requests through each of the two; 1000 unless it is set.
"""

import http.client
import os
import random
import shutil
import subprocess
import sys
import threading
import unittest

import harness
from supervised import Case

REQUESTS = int(os.environ.get("FERRY_FRONT_REQUESTS", "1000"))
CLIENTS = 8

HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 30s
    timeout client 120s
    timeout server 120s
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server ferry 127.0.0.1:{ferry} {send_proxy}
"""

NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
worker_processes 1;
events {{ worker_connections 500; }}
http {{
    access_log off;
    client_body_buffer_size 1m;
    client_body_temp_path {directory}/t1;
    proxy_temp_path {directory}/t2;
    fastcgi_temp_path {directory}/t3;
    uwsgi_temp_path {directory}/t4;
    scgi_temp_path {directory}/t5;
    upstream ferry {{ server 127.0.0.1:{ferry}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://ferry;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


def free_port():
    with harness.socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Fronts(Case):
    SITES = {("a.example", "/page.txt"): b"site a", ("b.example", "/page.txt"): b"site b",
             ("a.example", "/app/page.txt"): b"app", ("b.example", "/app/page.txt"): b"app"}

    def start_proxy(self):
        proxy = self.start(config="""
            listen 127.0.0.1:0
            listen 127.0.0.1:0 proxy-protocol from=127.0.0.0/8
            service a root={root} workers=2
            service b root={directory}/b workers=2
            service app root={directory}/c workers=1
            route path=/app app
            route host=b.example b
            route host=b.example path=/app app
            default a
        """, prepare=("b", "c/app"))
        proxy.put("page.txt", b"site a")
        (proxy.directory / "b/page.txt").write_bytes(b"site b")
        (proxy.directory / "c/app/page.txt").write_bytes(b"app")
        proxy.wait_until_ready(5)
        return proxy

    def start_front(self, proxy, name, template, *command, **values):
        port = free_port()
        directory = proxy.directory / name
        directory.mkdir()
        configuration = directory / "configuration"
        configuration.write_text(template.format(port=port, directory=directory, **values))
        with open(directory / "log", "wb") as log:
            process = subprocess.Popen([*command, configuration], stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=subprocess.STDOUT)
        def end():
            process.terminate()
            process.wait(harness.DEADLINE)
        self.addCleanup(end)

        def listens():
            self.assertIsNone(process.poll(), (directory / "log").read_text())
            try:
                harness.socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                return False
            return True
        harness.wait_until(listens, f"{name} listens")
        return port

    def ask(self, port, count, seed, wrong):
        """Requests in a random order on one connection to the front."""
        choices = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.DEADLINE)
        for _ in range(count):
            host, path = choices.choice(list(self.SITES))
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or body != self.SITES[host, path]:
                wrong.append((host, path, answer.status, body))
        connection.close()

    def ask_all(self, port):
        wrong = []
        threads = [threading.Thread(target=self.ask, args=(port, REQUESTS // CLIENTS, seed, wrong))
                   for seed in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def check_bodies(self, port):
        """Requests with a body, whose bytes look like requests. Each is answered (the worker takes none), and no byte of
        a body reaches the next request of any client."""
        inner = b"GET /app/page.txt HTTP/1.1\r\nHost: b.example\r\n\r\n"
        bodies = {"counted": inner * 3, "chunked": [inner, inner], "large": inner * 4000,
                  "large and chunked": [inner * 100] * 40, "empty": b"", "empty and chunked": []}
        for name, body in bodies.items():
            for host, path in self.SITES:
                with self.subTest(name, host=host, path=path):
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=harness.DEADLINE)
                    chunked = not isinstance(body, bytes)
                    fields = {"Host": host, **({"Transfer-Encoding": "chunked"} if chunked else {})}
                    connection.request("POST", path, body=iter(body) if chunked else body, headers=fields,
                                       encode_chunked=chunked)
                    answer = connection.getresponse()
                    answer.read()
                    self.assertEqual(answer.status, 405)
                    connection.close()
                    wrong = []
                    self.ask(port, 20, name, wrong)
                    self.assertEqual(wrong, [])

    def check_reuse(self, proxy):
        """The fronts have used far fewer connections than requests."""
        accepted = proxy.metric("ferry_proxy_clients_accepted_total ")
        self.assertLess(accepted, REQUESTS / 2)

    @unittest.skipIf(shutil.which("haproxy") is None, "no haproxy")
    def test_haproxy(self):
        proxy = self.start_proxy()
        ports = []
        plain, with_header = (port for _, port in proxy.addresses("listening"))
        for name, ferry, send_proxy in (("plain", plain, ""), ("header", with_header, "send-proxy-v2")):
            with self.subTest(name):
                port = self.start_front(proxy, name, HAPROXY, "haproxy", "-db", "-f", ferry=ferry,
                                        send_proxy=send_proxy)
                self.ask_all(port)
                ports.append(port)
        self.check_reuse(proxy)
        for port in ports:
            self.check_bodies(port)

    @unittest.skipIf(shutil.which("nginx") is None, "no nginx")
    def test_nginx(self):
        proxy = self.start_proxy()
        port = self.start_front(proxy, "nginx", NGINX, "nginx", "-c", ferry=proxy.port)
        self.ask_all(port)
        self.check_reuse(proxy)
        self.check_bodies(port)


if __name__ == "__main__":
    # Without a front the test counts as skipped.
    program = unittest.main(exit=False)
    if not program.result.wasSuccessful():
        sys.exit(1)
    sys.exit(77 if program.result.skipped else 0)
