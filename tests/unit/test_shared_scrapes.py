"""What a scrape shows: shared collections, several workers' pages in one, and what successors inherit."""

from __future__ import annotations

import gzip
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from opentelemetry_instrumentation_mcp.distro import pages as module
from opentelemetry_instrumentation_mcp.distro.listener import Request
from opentelemetry_instrumentation_mcp.distro.pages import Pages, labelled, merged

OPENMETRICS = Request("application/openmetrics-text;version=1.0.0")
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Collector:
    """Something to collect; counts how often that is done."""

    def __init__(self) -> None:
        self.collections = 0
        self.value = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self.labels: dict[str, str] = {"tool": "a"}

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        self.collections += 1
        values = {kind: self.value for kind in ("counter", "gauge", "histogram", "summary")}
        self.meanwhile()
        names, labels = list(self.labels), list(self.labels.values())
        counter = CounterMetricFamily("calls", "Calls\nmade", labels=names)
        counter.add_metric(labels, values["counter"])
        gauge = GaugeMetricFamily("open", "", labels=names)
        gauge.add_metric(labels, values["gauge"])
        histogram = HistogramMetricFamily("took", "Time", labels=names)
        histogram.add_metric(labels, [("0.5", values["histogram"]), ("+Inf", 2 * values["histogram"])], 1.5)
        summary = SummaryMetricFamily("sizes", "Sizes", labels=names)
        summary.add_metric(labels, values["summary"], 2.0)
        yield from (counter, gauge, histogram, summary)


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    REGISTRY.register(collector)
    yield collector
    REGISTRY.unregister(collector)


class Worker:
    """A place that remembers."""

    def __init__(self, label: str | None = "1", page: bytes | None = None) -> None:
        self.label = label
        self.page = page

    def keep(self, page: bytes) -> None:
        self.page = page

    def kept(self, name: str) -> bytes:
        if self.page is None:
            raise FileNotFoundError(name)
        return self.page


def families(page: bytes) -> Iterable[Metric]:
    """The page read again, by the parser for its format."""
    if page.endswith(b"# EOF\n"):
        # Without annotations there.
        return openmetrics.text_string_to_metric_families(page.decode())  # pyright: ignore
    return text_string_to_metric_families(page.decode())


def samples(page: bytes) -> Samples:
    """The samples of the collector on a page; no series may be there twice."""
    found: Samples = {}
    for family in families(page):
        for sample in family.samples:
            if sample.name.split("_")[0] in ("calls", "open", "took", "sizes"):
                key = sample.name, tuple(sorted(sample.labels.items()))
                assert key not in found, key
                found[key] = sample.value
    return found


def value(page: bytes, name: str) -> float:
    [number] = [number for (key, _), number in samples(page).items() if key == name]
    return number


def test_a_page_is_what_prometheus_client_makes_of_the_registry(collector: Collector) -> None:
    collector.value = 3
    page = Pages().own(Request())

    assert samples(page.body) == samples(generate_latest(REGISTRY))
    assert value(page.body, "calls_total") == 3


def test_formats_and_compression_are_the_scrapers_choice(collector: Collector) -> None:
    pages = Pages()

    plain, other = pages.own(Request()), pages.own(OPENMETRICS)
    assert plain.content_type.startswith("text/plain")
    assert other.content_type.startswith("application/openmetrics-text")
    assert samples(other.body) == samples(plain.body)
    packed = pages.own(Request("", "gzip"))
    assert packed.headers == (("Content-Encoding", "gzip"),)
    assert samples(gzip.decompress(packed.body)) == samples(plain.body)


def test_single_names(collector: Collector) -> None:
    page = Pages().own(Request(names=frozenset({"calls_total", "took_sum", "nothing"})))

    assert {name for name, _ in samples(page.body)} == {"calls_total", "took_sum"}
    assert b"python_info" not in page.body


def test_a_scrape_never_shows_less_than_was_there_when_it_came(collector: Collector) -> None:
    pages = Pages()
    entered, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        entered.set()
        assert go_on.wait(10)

    collector.meanwhile = meanwhile
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(pages.own, Request())
        assert entered.wait(10)
        # From here on the first collection is too old for whoever comes.
        collector.value = 1
        later = [pool.submit(pages.own, Request()) for _ in range(10)]
        go_on.set()
        assert value(first.result(10).body, "calls_total") == 0
        assert {value(each.result(10).body, "calls_total") for each in later} == {1}
    # Those who came while it ran have shared: at most the ones that came too late for the next one have another.
    assert collector.collections < 11


def test_a_hundred_scrapers_share_a_few_collections(collector: Collector) -> None:
    pages = Pages()
    together = threading.Barrier(100)
    collector.meanwhile = lambda: threading.Event().wait(0.2)

    def scrape(_: int) -> bytes:
        together.wait(30)
        return pages.own(Request()).body

    with ThreadPoolExecutor(100) as pool:
        bodies = list(pool.map(scrape, range(100)))

    assert len({tuple(samples(body).items()) for body in bodies}) == 1
    assert collector.collections <= 10


class Broken:
    """A collector of the application's that does not do what it should."""

    def __init__(self, collect: Callable[[], Any]) -> None:
        self.collect = collect

    def describe(self) -> list[Metric]:
        return []


@contextmanager
def registered(*collectors: Any) -> Generator[None]:
    for collector in collectors:
        REGISTRY.register(collector)
    try:
        yield
    finally:
        for collector in collectors:
            REGISTRY.unregister(collector)


def gauge(name: str = "odd", value: Any = 1, documentation: Any = "Odd", **labels: Any) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=list(labels))
    family.add_metric(list(labels.values()), value)
    return family


def raises() -> list[Metric]:
    raise ValueError("s3cr3t")


def raises_in_the_middle() -> Iterator[Metric]:
    yield gauge("first_half")
    raise ValueError("s3cr3t")


@pytest.mark.parametrize("request_", [Request(), OPENMETRICS, Request(names=frozenset({"odd", "calls_total"}))])
@pytest.mark.parametrize(
    "collect",
    [
        raises,
        raises_in_the_middle,
        lambda: None,
        lambda: 5,
        lambda: ["s3cr3t"],
        lambda: [None],
        lambda: [gauge(value=None)],
        lambda: [gauge(value="s3cr3t")],
        lambda: [gauge(documentation=None)],
        lambda: [gauge(s3cr3t=None)],
        lambda: [gauge(s3cr3t=b"bytes")],
    ],
)
@pytest.mark.parametrize("kept", [None, b"text/plain\n# TYPE odd gauge\nodd 1\n# TYPE calls counter\ncalls_total 1\n"])
def test_a_collector_that_fails_costs_what_it_has_and_a_line(
    collector: Collector,
    collect: Callable[[], Any],
    request_: Request,
    kept: bytes | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    collector.value = 4
    after = Broken(lambda: [gauge("later", 2)])
    with registered(Broken(collect), after):
        pages = Pages(Worker("0", kept) if kept else None)
        bodies = [pages.own(request_).body for _ in range(2)]

    for body in bodies:
        assert 4 in [number for (name, _), number in samples(body).items() if name == "calls_total"]
        assert b"odd{" not in body and b"\nodd " not in body and b"first_half" not in body
        assert bool(request_.names) or b"\nlater" in body
    # One line for both scrapes, and nothing of what the exception says.
    assert len(caplog.messages) == 1
    assert "s3cr3t" not in caplog.text


def test_a_page_has_the_order_of_the_registry_and_its_target(collector: Collector) -> None:
    class Still:
        def describe(self) -> list[Metric]:
            return []

        def collect(self) -> list[Metric]:
            info = InfoMetricFamily("build", "Info")
            info.add_metric([], {"version": "1"})
            return [gauge("z"), gauge("a"), info]

    def without_processes(page: bytes) -> list[bytes]:
        # What the process collector measures changes from one collection to the next.
        return [line for line in page.splitlines() if b"process_" not in line and b"python_gc" not in line]

    before = REGISTRY.get_target_info()
    REGISTRY.set_target_info({"service": "weather"})
    try:
        with registered(Still()):
            page, stock = Pages().own(Request()).body, generate_latest(REGISTRY)
    finally:
        REGISTRY.set_target_info(before)
    assert without_processes(page) == without_processes(stock)
    assert b'target_info{service="weather"} 1.0' in page


def test_a_registry_of_another_shape_is_collected_as_a_whole(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Other:
        def collect(self) -> Iterator[Metric]:
            yield gauge("before")
            yield from collector.collect()
            raise ValueError("s3cr3t")

    monkeypatch.setattr(module, "REGISTRY", Other())
    body = Pages().own(Request()).body

    assert value(body, "calls_total") == 0
    assert b"\nbefore 1.0\n" in body
    assert len(caplog.messages) == 1


BAD = "caf\udce9"


@pytest.mark.parametrize("accept", ["", OPENMETRICS.accept, f"{OPENMETRICS.accept};escaping=allow-utf-8"])
@pytest.mark.parametrize("worker", [None, "0"])
def test_what_cannot_be_encoded_is_shown_with_replacement_characters(
    collector: Collector, accept: str, worker: str | None
) -> None:
    collector.value = 3
    collector.labels = {"tool": BAD}
    info = InfoMetricFamily("described", BAD)
    info.add_metric([], {"service_name": BAD})
    odd = CounterMetricFamily("odd", f"{BAD} \ud800", labels=[BAD] if "utf" in accept else [])
    odd.add_metric(["x"] if "utf" in accept else [], 1)
    place = Worker(worker)
    with registered(Broken(lambda: [info, odd])):
        for factor in (1, 2 if worker else 1):
            body = Pages(place).own(Request(accept)).body
            labels = (("tool", "caf\ufffd"), *((("worker", worker),) if worker else ()))
            assert samples(body)["calls_total", labels] == 3 * factor
            assert 'service_name="caf\ufffd"' in body.decode()
            assert "caf\ufffd \ufffd" in body.decode()


def test_a_collection_that_does_not_end_costs_the_others_a_bounded_time(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.2)
    pages = Pages()
    entered, go_on = threading.Event(), threading.Event()
    collector.meanwhile = lambda: (entered.set(), go_on.wait(10))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(pages.own, Request())
        assert entered.wait(10)
        with pytest.raises(TimeoutError):
            pages.own(Request())
        go_on.set()
        assert first.result(10)


def test_one_page_is_made_at_a_time_and_shared_by_all_who_ask_for_the_same(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered, lock = module.rendered, threading.Lock()
    at_work, most, renders = 0, 0, 0

    def counted(families: list[Metric], request: Request) -> bytes:
        nonlocal at_work, most, renders
        with lock:
            at_work, renders = at_work + 1, renders + 1
            most = max(most, at_work)
        time.sleep(0.2)
        with lock:
            at_work -= 1
        return rendered(families, request)

    monkeypatch.setattr(module, "rendered", counted)
    pages = Pages()
    request = Request(names=frozenset({"calls_total"}))

    def scrape(_: int) -> None:
        for _ in range(5):
            assert value(pages.own(request).body, "calls_total") == 0

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(scrape, range(8)))
    assert most == 1
    assert renders <= 20


def test_a_collection_keeps_only_so_many_different_pages(collector: Collector) -> None:
    pages = Pages()
    # As if others were waiting for it all the time.
    collection = pages._collect(1)  # pyright: ignore[reportPrivateUsage]
    requests = [Request(names=frozenset({"calls_total", f"n{number}"})) for number in range(100)]

    bodies = {collection.page(request, None).body for request in requests}
    assert len(bodies) == 1
    assert len(collection._bodies) <= module.MOST_BODIES  # pyright: ignore[reportPrivateUsage]


def test_a_worker_has_its_number_on_every_series_and_other_processes_have_none(collector: Collector) -> None:
    page = Pages(Worker("7")).own(Request())

    lines = [line for line in page.body.decode().splitlines() if not line.startswith("#")]
    assert lines
    assert all('worker="7"' in line for line in lines)
    for single in (Pages(), Pages(Worker(None))):
        assert b"worker=" not in single.own(Request()).body


def test_a_label_of_the_applications_own_is_kept_under_another_name(collector: Collector) -> None:
    collector.labels = {"worker": "theirs"}

    page = Pages(Worker("7")).own(Request()).body
    assert ("calls_total", (("exported_worker", "theirs"), ("worker", "7"))) in samples(page)


@pytest.mark.parametrize("request_", [Request(), OPENMETRICS])
def test_a_successor_goes_on_from_its_predecessor(collector: Collector, request_: Request) -> None:
    place = Worker()
    collector.value = 5
    first = Pages(place)
    first.own(request_)
    collector.value = 7
    before = samples(first.own(request_).body)

    # The first one is dead.
    collector.value = 2
    own = samples(Pages(Worker()).own(request_).body)
    after = samples(Pages(place).own(request_).body)
    # What is open is no longer open in the dead one; everything else adds up.
    assert after == {key: number + (before[key] if key[0] != "open" else 0) for key, number in own.items()}
    assert (
        value(Pages(place).own(Request()).body, "calls_total") > before["calls_total", (("tool", "a"), ("worker", "1"))]
    )


def test_what_only_the_predecessor_had_is_still_there(collector: Collector) -> None:
    place = Worker()
    collector.value = 5
    Pages(place).own(Request())
    collector.labels = {"tool": "b", "status": "ok"}
    second = Pages(place)

    after = samples(second.own(Request()).body)
    assert after["calls_total", (("tool", "a"), ("worker", "1"))] == 5
    assert after["calls_total", (("status", "ok"), ("tool", "b"), ("worker", "1"))] == 5
    # An empty label is no label: the exporter fills up what other series of a family have.
    collector.labels = {"tool": "a", "status": ""}
    again = samples(Pages(place).own(Request()).body)
    assert again["calls_total", (("status", ""), ("tool", "a"), ("worker", "1"))] == 10
    # And through a third one, with all that there was.
    collector.labels = {"tool": "c"}
    third = samples(Pages(place).own(Request()).body)
    assert sum(number for (name, _), number in third.items() if name == "calls_total") == 20


def test_a_page_of_single_names_is_not_kept(collector: Collector) -> None:
    place = Worker()
    Pages(place).own(Request(names=frozenset({"calls_total"})))

    assert place.page is None


@pytest.mark.parametrize("kept", [b"", b"text/plain\nnonsense {", b"\xff\xff", b"application/openmetrics-text\nx"])
def test_what_cannot_be_read_is_not_inherited(
    collector: Collector, kept: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    collector.value = 1

    assert value(Pages(Worker(page=kept)).own(Request()).body, "calls_total") == 1
    assert not caplog.messages or "predecessor" in caplog.messages[0]


class Others:
    """The siblings, without processes."""

    def __init__(self, *bodies: bytes) -> None:
        self.bodies = list(bodies)

    def ask(self, request: Request) -> Callable[[], list[bytes]]:
        return lambda: self.bodies


@pytest.mark.parametrize("request_", [Request(), OPENMETRICS])
def test_a_whole_servers_page_has_every_family_once_and_all_samples(collector: Collector, request_: Request) -> None:
    bodies = [Pages(Worker(str(number))).own(request_).body for number in (1, 2)]
    page = Pages(Worker("0")).with_siblings(Others(*bodies))(request_).body

    names = [line.split()[2] for line in page.decode().splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    own = samples(Pages(Worker("0")).own(request_).body)
    assert samples(page) == own | samples(bodies[0]) | samples(bodies[1])


def test_families_that_only_some_have_and_odd_label_values_survive() -> None:
    first = b'# HELP a A\n# TYPE a counter\na{x="\\n# HELP a"} 1.0\n'
    second = b"# HELP b \n# TYPE b gauge\nb 2.0\n# HELP a other\n# TYPE a counter\na 3.0\n# HELP c \n# TYPE c gauge\n"

    assert merged([first, second]) == (
        b'# HELP a A\n# TYPE a counter\na{x="\\n# HELP a"} 1.0\na 3.0\n'
        b"# HELP b \n# TYPE b gauge\nb 2.0\n# HELP c \n# TYPE c gauge\n"
    )
    assert merged([b"# HELP bare\n# TYPE bare gauge\nbare 1\n", b"# HELP bare\nbare 2\n"]) == (
        b"# HELP bare\n# TYPE bare gauge\nbare 1\nbare 2\n"
    )
    assert merged([b"# HELP a A\n# TYPE a gauge\n# UNIT a s\na 1\n# EOF\n"] * 2) == (
        b"# HELP a A\n# TYPE a gauge\n# UNIT a s\na 1\na 1\n# EOF\n"
    )


@pytest.mark.parametrize(
    ("line", "labelled_line"),
    [
        (b"a 1.0", b'a{worker="3"} 1.0'),
        (b"a 1.0 1700000000", b'a{worker="3"} 1.0 1700000000'),
        (b'{"a.b c"} 1.0', b'{"a.b c",worker="3"} 1.0'),
        (b'a{x="y"} 1.0', b'a{worker="3",x="y"} 1.0'),
        (b'a:b_c{x="{worker=\\"1\\" "} 1.0', b'a:b_c{worker="3",x="{worker=\\"1\\" "} 1.0'),
        (b'a{worker="1"} 1.0', b'a{worker="3",exported_worker="1"} 1.0'),
        (b'a{b="c",worker="1"} 1.0', b'a{worker="3",b="c",exported_worker="1"} 1.0'),
        (b'{"a.b c",x="y"} 1.0', b'{"a.b c",worker="3",x="y"} 1.0'),
        (b'a_bucket{le="1.0"} 1.0 # {trace="x"} 0.5', b'a_bucket{worker="3",le="1.0"} 1.0 # {trace="x"} 0.5'),
        (
            b'a_total{b="c"} 1.0 # {b="c",worker="1"} 0.5',
            b'a_total{worker="3",b="c"} 1.0 # {b="c",worker="1"} 0.5',
        ),
        (
            b'{"a",b="},worker=\\"",worker="1"} 1.0 # {x="y",worker="1"} 1',
            b'{"a",worker="3",b="},worker=\\"",exported_worker="1"} 1.0 # {x="y",worker="1"} 1',
        ),
        (b'a{b=",worker=",c="\\\\"} 1.0', b'a{worker="3",b=",worker=",c="\\\\"} 1.0'),
        (b'{"a{b} \\" c"} 1.0', b'{"a{b} \\" c",worker="3"} 1.0'),
        (b"# HELP a {b} c", b"# HELP a {b} c"),
        (b"# EOF", b"# EOF"),
    ],
)
def test_the_label_is_put_into_the_text_where_the_format_has_it(line: bytes, labelled_line: bytes) -> None:
    page = b"# HELP a A\n%s\nb 2.0\n"

    assert labelled(page % line, "3") == b'# HELP a A\n%s\nb{worker="3"} 2.0\n' % labelled_line


NAMES = ["a b", "a c", 'a "b" c', "a\\b", "a\nb", "a b c", "a_b", "a"]


@pytest.mark.parametrize("accept", ["text/plain;version=1.0.0", "application/openmetrics-text;version=1.0.0"])
def test_families_with_quoted_names_are_not_mixed_up(accept: str) -> None:
    request = Request(f"{accept};escaping=allow-utf-8")
    families = [gauge(name, number, f"Help of {number}", x="y") for number, name in enumerate(NAMES)]
    with registered(Broken(lambda: families)):
        others = [Pages(Worker(str(number))).own(request).body for number in (1, 2)]
        page = Pages(Worker("0")).with_siblings(Others(*others))(request).body

    lines = page.decode().splitlines()
    start, end = lines.index('# HELP "a b" Help of 0'), lines.index("# TYPE a gauge") + 4
    quoted = [
        ('"a b"', "{0},{1}"),
        ('"a c"', "{0},{1}"),
        (r'"a \"b\" c"', "{0},{1}"),
        (r'"a\\b"', "{0},{1}"),
        (r'"a\nb"', "{0},{1}"),
        ('"a b c"', "{0},{1}"),
        ("a_b", "{1}"),
        ("a", "{1}"),
    ]
    expected: list[str] = []
    for number, (name, _) in enumerate(quoted):
        expected += [f"# HELP {name} Help of {number}", f"# TYPE {name} gauge"]
        for worker in "012":
            labels = f'worker="{worker}",x="y"'
            series = f"{{{name},{labels}}}" if name.startswith('"') else f"{name}{{{labels}}}"
            expected.append(f"{series} {number}.0")
    assert lines[start:end] == expected
