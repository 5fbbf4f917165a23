from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pinco.catalog.store import s3
from pinco.catalog.store.base import StoreError
from pinco.catalog.store.s3 import S3Store
from pinco.catalog.store.s3_retries import BODY_ATTEMPTS

BODY = b"0123456789" * 1000

Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY)


def cut(request: BaseHTTPRequestHandler) -> None:
    """Names the whole length, sends a part, and hangs up."""
    request.send_response(200)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[:4321])
    request.close_connection = True


def cut_in_chunks(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"100\r\n" + BODY[:100])
    request.close_connection = True


def throttled(request: BaseHTTPRequestHandler) -> None:
    error = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    request.send_response(503)
    request.send_header("Content-Length", str(len(error)))
    request.end_headers()
    request.wfile.write(error)


@pytest.fixture
def answers() -> list[Answer]:
    """What the server does, request by request; afterwards it answers well."""
    return []


@pytest.fixture
def endpoint(answers: list[Answer]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            (answers.pop(0) if answers else whole)(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def no_waiting_for_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(S3Store._read.retry, "sleep", lambda seconds: None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("broken", [cut, cut_in_chunks])
def test_a_body_that_is_cut_short_is_read_again(
    broken: Answer, endpoint: str, answers: list[Answer], caplog: pytest.LogCaptureFixture
) -> None:
    answers += [broken, broken]
    assert S3Store("s3://bucket", endpoint=endpoint).get("x") == BODY
    assert [record.getMessage()[:33] for record in caplog.records] == ["an object on S3 came incomplete ("] * 2


@pytest.mark.parametrize("broken", [cut, cut_in_chunks])
def test_a_body_that_is_always_cut_short_is_an_error_and_never_an_object(
    broken: Answer, endpoint: str, answers: list[Answer]
) -> None:
    answers += [broken] * BODY_ATTEMPTS
    with pytest.raises(StoreError, match="keeps sending an incomplete answer"):
        S3Store("s3://bucket", endpoint=endpoint).get("x")
    assert answers == []


def test_a_length_that_the_client_overlooks_is_compared(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [BODY[:100], b"", BODY]
    monkeypatch.setattr("botocore.response.StreamingBody.read", lambda self: bodies.pop(0))
    assert S3Store("s3://bucket", endpoint=endpoint).get("x") == BODY
    assert bodies == []


def test_throttling_is_still_waited_out(
    endpoint: str, answers: list[Answer], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    answers += [throttled] * 4
    assert S3Store("s3://bucket", endpoint=endpoint).get("x") == BODY
    lines = [record.getMessage() for record in caplog.records if endpoint in record.getMessage()]
    assert lines == [f"S3 at {endpoint} answered 503 (attempt {number}); trying again" for number in range(1, 5)]


@pytest.fixture
def refused() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_that_refuses_connections_is_an_error_within_seconds(
    refused: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = S3Store("s3://bucket", endpoint=refused)
    for use in (lambda: store.get("x"), lambda: list(store.list()), lambda: store.put_if_absent("x", b"")):
        caplog.clear()
        began = time.monotonic()
        with pytest.raises(StoreError, match=rf"{refused} cannot be reached: .*Check the address of the server"):
            use()
        assert time.monotonic() - began < 8
        assert caplog.records and all(record.levelno == logging.WARNING for record in caplog.records)
        assert f"S3 at {refused} cannot be reached (attempt 1)" in caplog.records[0].getMessage()


def test_a_server_that_answered_before_is_waited_for(
    endpoint: str, refused: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    store = S3Store("s3://bucket", endpoint=endpoint)
    assert store.get("x") == BODY

    def refuse(*_: object, **__: object) -> None:
        raise s3.botocore.exceptions.EndpointConnectionError(endpoint_url=endpoint)

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", refuse)
    with pytest.raises(StoreError, match="cannot be reached"):
        store.get("x")
    assert len(caplog.records) > 5
