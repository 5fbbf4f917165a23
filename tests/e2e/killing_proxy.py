"""An HTTP proxy on loopback that counts requests and kills the process that sends them at a chosen one."""

from __future__ import annotations

import http.client
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class KillingProxy:
    """Passes requests on to `server`. At request number `kill_at` the server does its work and its answer is lost:
    the process `victim` is killed instead. One victim at a time.

    Attributes:
        endpoint: The proxy's own address.
        requests: How many requests there were since `watch`.
    """

    def __init__(self, server: str) -> None:
        self.requests, self._kill_at, self._victim = 0, 0, 0
        self._lock = threading.Lock()
        proxy, upstream = self, urlsplit(server).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # small answers would wait for acknowledgements

            def pass_on(self) -> None:
                fatal = proxy._count()
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                connection = http.client.HTTPConnection(upstream, timeout=30)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if fatal:
                    os.kill(proxy._victim, signal.SIGKILL)
                    self.close_connection = True
                    return
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                return

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # a killed victim leaves broken connections
                return

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def watch(self, victim: int, kill_at: int) -> None:
        """Count from one again, and kill this process at request number `kill_at` (0: never)."""
        with self._lock:
            self.requests, self._victim, self._kill_at = 0, victim, kill_at

    def _count(self) -> bool:
        with self._lock:
            self.requests += 1
            return self.requests == self._kill_at
