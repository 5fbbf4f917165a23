"""An HTTP proxy on loopback that stands for an object store on a bad day: throttled, failing, cutting answers short."""

from __future__ import annotations

import http.client
import random
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>bad day</Message></Error>'
_STATUS = {"SlowDown": 503, "InternalError": 500, "AccessDenied": 403}


class FlakyProxy:
    """Passes requests on to `server`, and spoils some of them, always the same for one seed and order.

    Attributes:
        endpoint: The proxy's own address.
        spoiled: How many requests were spoiled, by kind.
    """

    def __init__(self, server: str, *, share: float, seed: int = 0, forbidden: str = "forbidden") -> None:
        """Start it.

        Args:
            server: The store's address.
            share: Share of requests that are spoiled.
            seed: Decides which.
            forbidden: A part of keys that may never be read.
        """
        self.spoiled: Counter[str] = Counter()
        self._random, self._share, self._lock = random.Random(seed), share, threading.Lock()
        proxy, upstream = self, urlsplit(server).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer leaves in one piece; small ones would wait for acknowledgements
            disable_nagle_algorithm = True

            def handle_expect_100(self) -> bool:
                going_on = super().handle_expect_100()
                self.wfile.flush()  # boto3 waits a whole second for it before it sends the body of a PUT
                return going_on

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fate = "AccessDenied" if forbidden in self.path and self.command == "GET" else proxy.fate(self.command)
                if fate in _STATUS:
                    return self._refuse(fate)
                if fate == "drop":  # the connection breaks before the store hears of it
                    self.close_connection = True
                    return None
                connection = http.client.HTTPConnection(upstream, timeout=30)
                headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if fate == "lose":  # the store has done it, and its answer is lost
                    self.close_connection = True
                    return None
                self.send_response_only(answer.status, answer.reason)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.end_headers()
                if fate == "cut" and len(content) > 1:
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                    return None
                self.wfile.write(content)
                return None

            def _refuse(self, code: str) -> None:
                content = _ERROR.format(code=code).encode()
                self.send_response_only(_STATUS[code])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on  # noqa: N815

            def log_message(self, *_: object) -> None:
                return

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:  # a client that was killed leaves broken connections
                return

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()

    def fate(self, command: str) -> str:
        """What becomes of the next request: "pass", or how it is spoiled."""
        kinds = ["SlowDown", "InternalError", "drop", "lose"] + (["cut"] if command == "GET" else [])
        with self._lock:
            if self._random.random() >= self._share:
                return "pass"
            fate = self._random.choice(kinds)
            self.spoiled[fate] += 1
            return fate
