"""The metrics page over real sockets: who gets what, and what clients that misbehave cost the others."""

from __future__ import annotations

import http.client
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress

import pytest

from opentelemetry_instrumentation_mcp.distro import listener as module
from opentelemetry_instrumentation_mcp.distro.listener import MOST_CONNECTIONS, Listener, Page, Request

PAGE = Page("text/plain; version=0.0.4", b"beats_total 3.0\n")
Serve = Callable[..., Listener]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts listeners that end with the test."""
    with ExitStack() as listeners:

        def serve_one(respond: Callable[[Request], Page] = lambda _: PAGE) -> Listener:
            listener = Listener(socket.AF_INET, ("127.0.0.1", 0), respond)
            listener.start()
            listeners.callback(listener.close)
            return listener

        yield serve_one


def ask(listener: Listener, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", listener.port, timeout=10)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def raw(listener: Listener, *parts: bytes) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
        client.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
        return answer


def test_get_and_head_have_the_same_headers(serve: Serve) -> None:
    listener = serve()

    status, headers, body = ask(listener, "GET", "/metrics")
    assert (status, body) == (200, PAGE.body)
    assert headers["content-type"] == PAGE.content_type
    assert headers["content-length"] == str(len(PAGE.body))
    head_status, head_headers, head_body = ask(listener, "HEAD", "/metrics")
    assert (head_status, head_body) == (200, b"")
    assert {**head_headers, "date": ""} == {**headers, "date": ""}


def test_the_root_links_to_the_metrics(serve: Serve) -> None:
    status, headers, body = ask(serve(), "GET", "/")

    assert status == 200
    assert headers["content-type"].startswith("text/html")
    assert b"href=/metrics" in body


@pytest.mark.parametrize("path", ["/metric", "/metrics/", "/favicon.ico", "/metrics%00", "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_there_is_nothing_anywhere_else(serve: Serve, path: str, method: str) -> None:
    assert ask(serve(), method, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/metrics"])
def test_other_methods_are_not_allowed(serve: Serve, path: str, method: str) -> None:
    status, headers, _ = ask(serve(), method, path)

    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_the_answer_to_a_post_arrives_although_its_body_is_not_read(serve: Serve) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{serve().port}/metrics", b"x" * 1_000_000)

    with pytest.raises(urllib.error.HTTPError, match="405"):
        urllib.request.urlopen(request, timeout=10)


def test_what_the_scraper_wants_is_passed_on(serve: Serve) -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Page:
        asked.append(request)
        return PAGE

    headers = {"Accept": "text/html", "Accept-Encoding": "br"}
    ask(serve(respond), "GET", "/metrics?name[]=a&name%5B%5D=b&other=c", **headers)

    assert asked == [Request("text/html", "br", ("a", "b"))]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /metrics HTTP/9.9\r\n\r\n", 505),
        (b"GET /metrics FTP/1.0\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_malformed_requests_are_refused(serve: Serve, request_bytes: bytes, status: int) -> None:
    listener = serve()

    assert f" {status} ".encode() in raw(listener, request_bytes).split(b"\r\n")[0]
    assert ask(listener, "GET", "/metrics")[0] == 200


@pytest.mark.parametrize("parts", [(), (b"\r\n\r\n",), (b"G",), (b"\x00" * 100_000,), (b"GET /" + b"a" * 100_000,)])
def test_whatever_comes_the_next_one_is_answered(serve: Serve, parts: tuple[bytes, ...]) -> None:
    listener = serve()

    # A reset is an answer, too, where more is sent than is read.
    with suppress(ConnectionError):
        raw(listener, *parts)
    assert ask(listener, "GET", "/metrics")[0] == 200


def test_a_request_may_come_in_pieces(serve: Serve) -> None:
    listener = serve()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as client:
        for byte in b"GET /metrics HTTP/1.1\r\n\r\n":
            client.sendall(bytes([byte]))
        assert client.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


def test_clients_that_do_not_get_on_are_dropped_and_others_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 1.0)
    listener = serve()
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=10))
            for _ in range(MOST_CONNECTIONS + 8)
        ]
        stop = threading.Event()

        def trickle() -> None:
            # A byte now and then: no single read takes long.
            while not stop.wait(0.2):
                for client in slow:
                    with suppress(OSError):
                        client.sendall(b"a")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            assert ask(listener, "GET", "/metrics")[0] == 200
            assert all(is_closed(client) for client in slow)
        finally:
            stop.set()
            thread.join()


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def test_a_client_that_does_not_read_its_answer_is_dropped(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_SECONDS", 0.5)

    def respond(_: Request) -> Page:
        return Page("text/plain", b"x" * 50_000_000)

    listener = serve(respond)
    before = threading.active_count()
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        deadline = time.monotonic() + 10
        client.recv(1)
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert threading.active_count() <= before


def test_threads_are_capped_and_nobody_is_sent_away(serve: Serve) -> None:
    most, at_work, lock = 0, 0, threading.Lock()

    def respond(_: Request) -> Page:
        nonlocal most, at_work
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.05)
        with lock:
            at_work -= 1
        return PAGE

    listener = serve(respond)
    with ThreadPoolExecutor(100) as pool:
        answers = [pool.submit(ask, listener, "GET", "/metrics") for _ in range(100)]

    assert [answer.result()[0] for answer in answers] == [200] * 100
    assert 1 < most <= MOST_CONNECTIONS


@pytest.mark.parametrize(("error", "status"), [(ValueError("no"), 500), (TimeoutError("busy"), 503)])
def test_a_page_that_cannot_be_made_is_an_error_and_not_the_end(
    serve: Serve, error: Exception, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def respond(_: Request) -> Page:
        raise error

    listener = serve(respond)

    assert [ask(listener, "GET", "/metrics")[0] for _ in range(2)] == [status, status]
    assert capfd.readouterr() == ("", "")


def test_closing_ends_the_listening_at_once(serve: Serve) -> None:
    listener = serve()
    start = time.monotonic()
    listener.close()

    assert time.monotonic() - start < 5
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", listener.server_address[1])) != 0
