"""The metrics page over real sockets: who gets what, and what clients that misbehave cost the others."""

from __future__ import annotations

import http.client
import logging
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress

import psutil
import pytest

from opentelemetry_instrumentation_mcp.distro import listener as module
from opentelemetry_instrumentation_mcp.distro.listener import (
    MOST_CONNECTIONS,
    MOST_NAMES,
    MOST_OPEN,
    Listener,
    Page,
    Request,
)

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


def always(page: Page) -> Callable[[Request], Page]:
    return lambda _: page


def ask(listener: Listener, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", listener.port, timeout=30)) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def raw(listener: Listener, *parts: bytes) -> bytes:
    """What comes back for these bytes."""
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as client:
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
        urllib.request.urlopen(request, timeout=30)


def test_what_the_scraper_wants_is_passed_on(serve: Serve) -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Page:
        asked.append(request)
        return PAGE

    headers = {"Accept": "text/html", "Accept-Encoding": "br"}
    ask(serve(respond), "GET", "/metrics?name[]=a&name%5B%5D=b&other=c", **headers)

    assert asked == [Request("text/html", "br", frozenset({"a", "b"}))]


def query(names: Iterable[str]) -> str:
    return "/metrics?" + "&".join(f"name[]={name}" for name in names)


@pytest.mark.parametrize(
    ("names", "status"),
    [
        ([f"n{number}" for number in range(MOST_NAMES)], 200),
        (["same"] * MOST_NAMES, 200),
        ([f"n{number}" for number in range(MOST_NAMES + 1)], 400),
        (["same"] * 4_400, 400),
        # Few, but a worker would ask its siblings for more than they read.
        ([f"n{number}" + '"' * 200 for number in range(100)], 400),
    ],
)
def test_a_scraper_may_ask_for_so_many_names(serve: Serve, names: list[str], status: int) -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Page:
        asked.append(request)
        return PAGE

    assert ask(serve(respond), "GET", query(names))[0] == status
    assert [request.names for request in asked] == ([frozenset(names)] if status == 200 else [])


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
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as client:
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
            stack.enter_context(socket.create_connection(("127.0.0.1", listener.port), timeout=30))
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


CROWD = 200


@contextmanager
def crowd(listener: Listener, greeting: bytes = b"", drip: bytes = b"") -> Generator[None]:
    """Many connections that say something, go on with a byte now and then, and come again when they are dropped."""
    stop = threading.Event()
    arrived = threading.Barrier(CROWD + 1)

    def come(wait: Callable[[], object]) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", listener.port), timeout=30) as client:
            client.sendall(greeting)
            wait()
            # Who only waits does not see that it was dropped, and comes again after a while.
            for _ in range(10_000 if drip else 75):
                if stop.wait(0.2):
                    return
                client.sendall(drip)

    def keep_coming() -> None:
        come(lambda: arrived.wait(60))
        while not stop.wait(0.2):
            come(lambda: None)

    threads = [threading.Thread(target=keep_coming, daemon=True) for _ in range(CROWD)]
    for thread in threads:
        thread.start()
    try:
        arrived.wait(60)
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def accepted(listener: Listener) -> int:
    """How many of its connections the listener holds, as the system has it."""
    connections = psutil.Process().net_connections("tcp")
    return len([each for each in connections if each.laddr.port == listener.port and each.status != "LISTEN"])


@pytest.mark.parametrize(
    "head",
    [
        pytest.param((b"", b"a"), id="nothing but a byte now and then"),
        pytest.param((b"GET /metrics HTTP/1.1\r\nX-Slow: ", b"a"), id="a head that has no end"),
    ],
)
def test_clients_that_drip_do_not_keep_the_page_away(serve: Serve, head: tuple[bytes, bytes]) -> None:
    listener = serve()
    threads = threading.active_count()
    with crowd(listener, *head):
        for _ in range(3):
            assert ask(listener, "GET", "/metrics")[0] == 200
            assert accepted(listener) <= MOST_OPEN
            # The crowd has its threads in this process, too: none of the listener's waits for one of them.
            assert threading.active_count() - CROWD - threads <= 4
    deadline = time.monotonic() + 30
    while accepted(listener) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert accepted(listener) == 0


def test_clients_that_do_not_read_their_answers_do_not_keep_the_page_away(serve: Serve) -> None:
    large = Page("text/plain", b"x" * 50_000_000)
    listener = serve(always(large))

    with crowd(listener, b"GET /metrics HTTP/1.1\r\n\r\n"):
        for _ in range(3):
            assert ask(listener, "GET", "/")[0] == 200
            assert accepted(listener) <= MOST_OPEN


def test_a_client_that_reads_its_answer_slowly_has_a_time_for_all_of_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEND_SECONDS", 1.0)
    listener = serve(always(Page("text/plain", b"x" * 500_000_000)))
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        read = 0
        with suppress(ConnectionError):
            while chunk := client.recv(1_000_000):
                read += len(chunk)
                time.sleep(0.05)
        assert 0 < read < 500_000_000


def test_an_answer_of_many_pieces_arrives_whole(serve: Serve) -> None:
    body = bytes(range(256)) * 100_000
    listener = serve(always(Page("text/plain", body)))

    assert ask(listener, "GET", "/metrics")[2] == body


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
    with socket.create_connection(("127.0.0.1", listener.port), timeout=30) as client:
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


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("s3cr3t"), 500), (TimeoutError("s3cr3t"), 503), (SystemExit("s3cr3t"), 500)]
)
def test_a_page_that_cannot_be_made_is_an_error_and_not_the_end(
    serve: Serve,
    error: BaseException,
    status: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def respond(_: Request) -> Page:
        raise error

    caplog.set_level(logging.INFO)
    listener = serve(respond)

    answers = [ask(listener, "GET", "/metrics") for _ in range(2)]
    assert [answer[0] for answer in answers] == [status, status]
    # Whoever scrapes learns that it failed; what the exception says is for the log, at DEBUG.
    assert not [answer for answer in answers if b"s3cr3t" in answer[2] or type(error).__name__.encode() in answer[2]]
    assert "s3cr3t" not in caplog.text
    assert capfd.readouterr() == ("", "")


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def ends(function: Callable[[], object]) -> bool:
    """Whether a call returns at all."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


def test_closing_ends_the_listening_at_once(serve: Serve) -> None:
    listener = serve()
    port = listener.port

    assert is_listening(port)
    assert ends(listener.close)
    assert not is_listening(port)
    assert ends(listener.close)


def test_an_answer_under_way_is_finished_after_the_end_of_the_listening(serve: Serve) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def respond(_: Request) -> Page:
        entered.set()
        assert go_on.wait(20)
        return PAGE

    listener = serve(respond)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, listener, "GET", "/metrics")
        assert entered.wait(20)
        listener.close()
        go_on.set()
        assert answer.result(20)[2] == PAGE.body


def test_a_listener_that_was_never_started_can_be_closed() -> None:
    listener = Listener(socket.AF_INET, ("127.0.0.1", 0), lambda _: PAGE)
    port = listener.port

    assert ends(listener.close)
    assert not is_listening(port)


def no_thread(*_: object) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_a_listener_that_gets_no_thread_does_not_listen_and_can_be_closed() -> None:
    listener = Listener(socket.AF_INET, ("127.0.0.1", 0), lambda _: PAGE)
    port = listener.port
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            listener.start()

    assert ends(listener.close)
    assert not is_listening(port)


def test_a_request_that_gets_no_thread_costs_nobody_else_an_answer(serve: Serve) -> None:
    listener = serve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with suppress(ConnectionError):
            assert raw(listener, b"GET /metrics HTTP/1.1\r\n\r\n") == b""

    assert ask(listener, "GET", "/metrics")[0] == 200


EVERY_PATH = ["/", "/metrics", "/elsewhere"]
ALLOWED = [
    "127.0.0.1",
    "127.0.0.1:9464",
    "192.0.2.7:80",
    "[::1]",
    "[::1]:9464",
    "[2001:db8::1]:80",
    "[fe80::1%25eth0]:80",
    "::1",
    "localhost",
    "LocalHost:9464",
    "localhost.",
    "localhost:",
    "metrics.localhost:1",
    "host.docker.internal:9464",
    socket.gethostname(),
    f"{socket.gethostname().upper()}.:80",
    socket.gethostname().partition(".")[0],
    f"{socket.gethostname().partition('.')[0]}.local",
]
REFUSED = [
    "evil.example",
    "evil.example:9464",
    "localhost.evil.example",
    "notlocalhost",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example@127.0.0.1",
    "[evil.example]",
    "[::1",
    "[::1]evil.example",
    "::1]",
    "localhost:evil",
    "localhost:1:2",
    "localhost, evil.example",
    "localhost evil.example",
    "local\xe9",
    "a" * 10_000,
    ".localhost",
    ".",
    ":80",
    f"{socket.gethostname()}.evil.example",
]


def head(host: str | None, target: str = "/metrics") -> bytes:
    header = "" if host is None else f"Host: {host}\r\n"
    return f"GET {target} HTTP/1.1\r\n{header}\r\n".encode("latin-1")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("host", [*ALLOWED, "", None], ids=repr)
def test_a_page_of_the_loopback_is_for_those_who_mean_this_machine(serve: Serve, host: str | None) -> None:
    assert status_of(raw(serve(), head(host))) == 200


@pytest.mark.parametrize("host", REFUSED, ids=lambda host: repr(host)[:40])
def test_a_name_that_anybody_can_point_to_the_loopback_is_refused(
    serve: Serve, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Request] = []

    def respond(request: Request) -> Page:
        asked.append(request)
        return PAGE

    caplog.set_level(logging.INFO)
    listener = serve(respond)
    answers = [raw(listener, head(host, path)) for path in EVERY_PATH]

    assert [status_of(answer) for answer in answers] == [403, 403, 403]
    assert not asked
    # Once, and without what somebody sent.
    [message] = caplog.messages
    assert message == (
        "a request was refused: on the loopback the metrics page answers only to names of this machine and to those "
        "that OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS lists"
    )


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
        (b"GET http://localhost:1/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET http://evil.example/metrics HTTP/1.1\r\n\r\n", 403),
        (b"GET http://a@localhost/metrics HTTP/1.1\r\n\r\n", 403),
        (b"GET http://localhost:1/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nhost: localhost\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
    ],
)
def test_every_place_that_names_a_host_counts(serve: Serve, request_bytes: bytes, status: int) -> None:
    assert status_of(raw(serve(), request_bytes)) == status


def test_the_variable_lists_further_names(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    variable = "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_ALLOWED_HOSTS"
    monkeypatch.setenv(variable, " Metrics.Example. ,, proxy.example:9464,*,http://a b")
    listener = serve()

    for host, status in {
        "metrics.example": 200,
        "METRICS.example.:80": 200,
        "proxy.example": 200,
        "x.metrics.example": 403,
        "*": 403,
    }.items():
        assert status_of(raw(listener, head(host))) == status, host
    [complaint] = [message for message in caplog.messages if "no host name" in message]
    assert complaint == f"{variable}: '*', 'http://a b' is no host name; using metrics.example, proxy.example"


def test_a_page_that_is_open_to_the_network_is_for_every_name() -> None:
    with ExitStack() as stack:
        listener = Listener(socket.AF_INET, ("0.0.0.0", 0), lambda _: PAGE)
        stack.callback(listener.close)
        listener.start()

        assert status_of(raw(listener, head("evil.example"))) == 200


def test_closing_waits_a_bounded_time_for_a_thread_that_something_holds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    held_up, released = threading.Event(), threading.Event()

    def hold_up(_: Listener) -> None:
        held_up.set()
        assert released.wait(60)

    monkeypatch.setattr(Listener, "_turn", hold_up)
    listener = Listener(socket.AF_INET, ("127.0.0.1", 0), lambda _: PAGE)
    listener.start()
    try:
        assert held_up.wait(30)
        assert ends(lambda: listener.close(last=lambda: None))
    finally:
        released.set()


def test_what_is_left_to_do_is_done_by_the_serving_thread() -> None:
    by: list[str] = []
    listener = Listener(socket.AF_INET, ("127.0.0.1", 0), lambda _: PAGE)
    listener.start()
    listener.close(last=lambda: by.append(threading.current_thread().name))

    assert by == ["otel-mcp-metrics"]
