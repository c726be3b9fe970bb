"""What a scrape shows: one collection for all requests before it began, and one page of several workers' pages.

A worker's page has its number as a label, goes on from its predecessor's and is kept for its successor. The rendering
is prometheus_client's.
"""

from __future__ import annotations

import copy
import gzip
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

from ..core.fail_open import guard, report_failure
from . import collecting, formats, history
from .encodable import encodable
from .listener import Page, Request

WORKER_LABEL: Final = "worker"

# A quote within a name or a label's value is escaped.
_QUOTED: Final = rb'"(?:[^"\\]|\\.)*"'
_QUOTED_NAME: Final = re.compile(_QUOTED)
_NAME: Final = re.compile(_QUOTED + rb"|[^ \n]*")
_LABELS: Final = re.compile(rb"(?:[^\"}]|" + _QUOTED + rb")*")
_THEIR_LABEL: Final = re.compile(rb"(?P<label>(?:^|(?<=,))worker=)|" + _QUOTED)

PATIENCE_SECONDS: Final = 10.0
"""How long a scrape waits for a collection that another one has under way."""

MOST_BODIES: Final = 8
"""The different pages of one collection that are kept for the requests that share it."""

# Of 5,000 series, the default of 9 takes a third longer and makes a tenth less.
_GZIP_LEVEL: Final = 6

_EOF: Final = b"# EOF\n"
_HELP: Final = b"\n# HELP "


class Worker(Protocol):
    """What a worker has among its siblings."""

    @property
    def label(self) -> str | None:
        """Its number; None for a process that is not a worker."""
        ...

    def keep(self, page: bytes) -> None:
        """Write a page down. Raises OSError if that cannot be done."""
        ...

    def kept(self, name: str) -> bytes:
        """What was written down under a number. Raises OSError if there is nothing."""
        ...


class Siblings(Protocol):
    """The other workers of the server."""

    def ask(self, request: Request) -> Callable[[], list[bytes]]:
        """Request their pages, uncompressed; the function returned waits for the answers."""
        ...


class Pages:
    """The pages of this process and, where it answers for a whole server, of its siblings.

    A scrape shows everything that happened before it arrived: it shares a collection that begins after that, never one
    that is under way already. However many scrapers there are, one collection runs at a time, and at most one waits.

    Args:
        worker: This worker; None for a process that is not one.
    """

    def __init__(self, worker: Worker | None = None) -> None:
        self._place = _Place(worker, worker.label) if worker is not None and worker.label is not None else None
        self._changed = threading.Condition()
        self._begun = 0
        self._running = False
        self._waiting = 0
        self._latest: tuple[int, _Collection] | None = None

    def own(self, request: Request) -> Page:
        """The page of this process alone."""
        return self._page(request, None)

    def keep(self) -> None:
        """Write the page down for a successor. Raises what a collection raises."""
        if self._place is not None:
            self._page(Request(), None)

    def with_siblings(self, siblings: Siblings) -> Callable[[Request], Page]:
        """Makes the page of the whole server."""
        return lambda request: self._page(request, siblings)

    def _page(self, request: Request, siblings: Siblings | None) -> Page:
        """The page of a collection that begins after this call, by this thread or another.

        Raises:
            TimeoutError: If the one before it does not come to an end.
        """
        shared = self._join()
        if isinstance(shared, _Collection):
            return shared.page(request, siblings)
        number, collection, has_ended = shared, None, False

        def end() -> None:
            nonlocal has_ended
            if not has_ended:
                has_ended = True
                self._end(number, collection)

        try:
            collection = self._collect(number)
            # The next one begins when this process has done its part, without waiting for siblings.
            return collection.page(request, siblings, end)
        finally:
            end()

    def _collect(self, number: int) -> _Collection:
        return _Collection(number, collecting.families(REGISTRY), self._place)

    def _join(self) -> _Collection | int:
        """A collection of another thread that has begun after this call, or the number of the one to begin now.

        Raises:
            TimeoutError: If the one before it does not come to an end.
        """
        with self._changed:
            wanted = self._begun + 1
            self._waiting += 1
            try:
                while self._running:
                    if not self._changed.wait(PATIENCE_SECONDS):
                        raise TimeoutError("an earlier scrape is still being collected")
                    if self._latest is not None and self._latest[0] >= wanted:
                        return self._latest[1]
                if self._latest is not None and self._latest[0] >= wanted:
                    return self._latest[1]
                self._running = True
                self._begun += 1
                return self._begun
            finally:
                self._waiting -= 1
                self._forget()

    def _end(self, number: int, collection: _Collection | None) -> None:
        with self._changed:
            self._running = False
            self._latest = (number, collection) if collection is not None else None
            self._forget()
            self._changed.notify_all()

    def _forget(self) -> None:
        """Drop a collection that no request waits for: it is as large as the page."""
        if not self._waiting:
            self._latest = None


class _Collection:
    """What one collection brought, and the pages made of it."""

    def __init__(self, number: int, families: list[Metric], place: _Place | None) -> None:
        self._number = number
        self._families = families if place is None else history.added(families, place.past)
        self._place = place
        self._lock = threading.Lock()
        self._bodies: dict[tuple[object, ...], bytes] = {}

    def page(self, request: Request, siblings: Siblings | None, is_made: Callable[[], None] | None = None) -> Page:
        """The page in the format that the scraper wants, made once for all requests that want the same.

        Args:
            request: What the scraper asks for.
            siblings: Whose pages are part of it.
            is_made: Called when this process has made its own part, and only waits for others.
        """
        format_ = formats.chosen(request.accept)
        plain = (format_.content_type, request.names, siblings is not None)
        with self._lock:
            body = self._kept(plain, lambda: self._body(format_, request.names, siblings, is_made))
            if not formats.takes_gzip(request.encoding):
                return Page(format_.content_type, body)
            packed = self._kept((*plain, "gzip"), lambda: gzip.compress(body, _GZIP_LEVEL))
        return Page(format_.content_type, packed, (("Content-Encoding", "gzip"),))

    def _kept(self, key: tuple[object, ...], make: Callable[[], bytes]) -> bytes:
        body = self._bodies.get(key)
        if body is None:
            body = make()
            if len(self._bodies) < MOST_BODIES:
                self._bodies[key] = body
        return body

    def _body(
        self,
        format_: formats.Format,
        names: frozenset[str],
        siblings: Siblings | None,
        is_made: Callable[[], None] | None,
    ) -> bytes:
        request = Request(format_.accept, names=names)
        # They are at work while this process renders its own part.
        answers = siblings.ask(request) if siblings is not None else list[bytes]
        own = rendered(self._families, request)
        if self._place is not None:
            if not names:
                self._place.keep(self._number, format_.content_type, own)
            own = labelled(own, self._place.label)
        if is_made is not None:
            is_made()
        others = answers()
        return merged([own, *others]) if others else own


class _Place:
    """A worker's place, with what its predecessors have left there and what it leaves itself."""

    def __init__(self, worker: Worker, label: str) -> None:
        self.label = label
        self.past = _past(worker, label)
        self._worker = worker
        self._lock = threading.Lock()
        self._newest = 0

    def keep(self, number: int, content_type: str, body: bytes) -> None:
        """Keep the newest page, whichever of two scrapes is ready first."""
        with self._lock:
            if number < self._newest:
                return
            self._newest = number
            try:
                self._worker.keep(history.written(content_type, body))
            except OSError as error:
                report_failure("the counters of this worker were not kept for its successor", error)


def rendered(families: list[Metric], request: Request) -> bytes:
    """A page of these families as the request wants it, uncompressed.

    What cannot be encoded is replaced. A family that cannot be rendered at all is left out, with a line in the log.
    """
    encode = formats.chosen(request.accept).encode
    try:
        return encode(_Families(_chosen(families, request.names)))
    except Exception:
        # The encoders fail for all families if one is wrong, and do not name it.
        parts = [_rendered_alone(encode, family, request.names) for family in families]
        end = _EOF if encode(_Families(())).endswith(_EOF) else b""
        return b"".join([*parts, end])


def _rendered_alone(encode: Callable[[Any], bytes], family: Metric, names: frozenset[str]) -> bytes:
    with guard(f"the metric {encodable(family.name)} is not on the page"):
        return encode(_Families(_chosen([_clean(family)], names))).removesuffix(_EOF)
    return b""


def _clean(family: Metric) -> Metric:
    """The family with nothing in it that cannot be encoded."""
    copied = _copied(family, [_clean_sample(sample) for sample in family.samples])
    copied.name, copied.unit = encodable(family.name), encodable(family.unit)
    copied.documentation = encodable(family.documentation)
    return copied


def _clean_sample(sample: Any) -> Any:
    exemplar = sample.exemplar
    if exemplar is not None:
        exemplar = exemplar._replace(labels=_clean_labels(exemplar.labels))
    return sample._replace(name=encodable(sample.name), labels=_clean_labels(sample.labels), exemplar=exemplar)


def _clean_labels(labels: dict[str, str]) -> dict[str, str]:
    return {encodable(name): encodable(value) for name, value in labels.items()}


def _past(worker: Worker, label: str) -> dict[str, Metric]:
    """What the worker's predecessors have counted, by family."""
    # The parsers may raise anything for what is written there. The first worker has no predecessor.
    with guard("the counters that a worker's predecessor kept are lost"), suppress(FileNotFoundError):
        return {family.name: family for family in history.counters(worker.kept(label))}
    return {}


class _Families:
    """What prometheus_client's encoders take: something that can be collected."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _chosen(families: list[Metric], names: frozenset[str]) -> Iterable[Metric]:
    """The families that have samples of these names, with nothing but those; all of them without names."""
    if not names:
        return families
    return (
        _copied(family, samples)
        for family in families
        if (samples := [sample for sample in family.samples if sample.name in names])
    )


def labelled(page: bytes, worker: str) -> bytes:
    """The page with the worker's label on every sample; one of that name that is there becomes ``exported_worker``.

    It is done to the text, line by line: copying the samples would cost several times as much.
    """
    label = f'{WORKER_LABEL}="{worker}"'.encode()
    return b"\n".join([_labelled(line, label) for line in page.split(b"\n")])


def _labelled(line: bytes, label: bytes) -> bytes:
    if not line or line.startswith(b"#"):
        return line
    name, brace, rest = line.partition(b"{")
    if not brace or b" " in name:
        # No labels; the brace, if there is one, is an exemplar's.
        name, _, rest = line.partition(b" ")
        return b"%s{%s} %s" % (name, label, rest)
    if WORKER_LABEL.encode() in rest:
        # Not in what follows the labels, where an exemplar has its own.
        match = _LABELS.match(rest)
        end = match.end() if match is not None else len(rest)
        rest = _THEIR_LABEL.sub(_exported, rest[:end]) + rest[end:]
    if not name and (quoted := _QUOTED_NAME.match(rest)):
        # A name of any characters, which stands within the braces and before the labels.
        end = quoted.end()
        return b"{%s,%s%s" % (rest[:end], label, rest[end:])
    return b"%s{%s,%s" % (name, label, rest)


def _exported(match: re.Match[bytes]) -> bytes:
    """What takes the place of a label of our name; a name or a value in quotes stays as it is."""
    return b"exported_" + match[0] if match["label"] else match[0]


def _copied(family: Metric, samples: list[Any]) -> Metric:
    # Collectors keep some of their families, so what they gave is left as it is.
    copied = copy.copy(family)
    copied.samples = samples
    return copied


def merged(pages: Sequence[bytes]) -> bytes:
    """One page with each family once, and under it the samples of all ``pages`` in their order.

    The pages are of one format. Help and type are those of the first page that has the family.
    """
    families: dict[bytes, list[bytes]] = {}
    for page in pages:
        # A label's value cannot be taken for a heading: a line break in it is escaped.
        for block in (b"\n" + page.removesuffix(_EOF)).split(_HELP)[1:]:
            name = _family_name(block)
            family = families.get(name)
            if family is None:
                families[name] = [b"# HELP " + block.removesuffix(b"\n")]
            elif samples := _without_headings(block).removesuffix(b"\n"):
                family.append(samples)
    lines = [part for family in families.values() for part in family]
    end = _EOF if pages and pages[0].endswith(_EOF) else b""
    return b"\n".join([*lines, end])


def _family_name(block: bytes) -> bytes:
    """What a block begins with: a name, or one in quotes that may have blanks in it."""
    match = _NAME.match(block)
    return match[0] if match is not None else b""


def _without_headings(block: bytes) -> bytes:
    """The samples below ``# HELP`` and the lines that follow it."""
    start = block.index(b"\n") + 1 if b"\n" in block else len(block)
    while block.startswith(b"# ", start):
        start = block.find(b"\n", start) + 1 or len(block)
    return block[start:]
