"""The metrics for a Prometheus to scrape: the stock exporter's reader, with what that leaves to its users.

It opens its port when there is something to show, answers for all workers of a server, does not fail on flushes or
exponential histograms, and starts again in a forked child. It does not encrypt, and needs no password.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import ExponentialHistogram, Metric, MetricsData
from prometheus_client.metrics_core import Metric as PrometheusMetric

from ..core.environment_variables import (
    OTEL_INSTRUMENTATION_MCP_PROMETHEUS_RESOURCE_LABELS,
    OTEL_INSTRUMENTATION_MCP_PROMETHEUS_WITHOUT_SCOPE_INFO,
)
from ..core.fail_open import guard, is_refused_at_the_end, report_failure
from . import leaving, life
from .origin import origin

if TYPE_CHECKING:
    from .endpoint import Endpoint

_logger = logging.getLogger(__name__)

_ATTRIBUTE_NAME: Final = re.compile(r"[A-Za-z_][\w./-]*")
_FORK_SECONDS: Final = 1.0
"""How long a fork may wait for a collection under way, whose locks the child would inherit for ever."""


class PrometheusReader(PrometheusMetricReader):
    """Serves metrics at OTEL_EXPORTER_PROMETHEUS_HOST and _PORT, from the first sign of life on.

    An unset or empty variable means the default, and so does a port that is no whole number from 0 to 65535. A port
    that cannot be bound is replaced by one of the system's choice on the same host (0 asks for that), a host that
    cannot be used by ``localhost``. One warning line has the URL and all that is not as configured.

    The metrics are in prometheus_client's global ``REGISTRY``, as the stock exporter's are: an application that serves
    this registry on its own serves ours with it.
    """

    def __init__(self) -> None:
        """Make a reader that does not listen yet. Never raises for a value in the environment."""
        self._skipped_metrics: set[str] = set()
        self._collecting = threading.Lock()
        self._is_paused = False
        self._consumer: Any = None
        self._opening = threading.Lock()
        self._endpoint: Endpoint | None = None
        self._is_shut_down = False
        self._is_forked = False
        options = _options()
        try:
            super().__init__(**options)
        except TypeError as error:
            # Releases of the exporter before these options.
            _logger.warning("%s; using neither scope nor resource options", error)
            super().__init__()
        # The registry calls the stock reader's collector, which mixes two collections up when they overlap.
        self._collect_families = self._collector.collect
        self._collector.collect = self._collect_alone
        _readers.add(self)

    @property
    def host(self) -> str:
        """The host listened on, as configured or replaced; empty before that."""
        return self._endpoint.host if self._endpoint is not None else ""

    @property
    def port(self) -> int:
        """The port listened on; 0 when this process does not listen, or not itself."""
        return self._endpoint.port if self._endpoint is not None else 0

    @property
    def url(self) -> str:
        """Where to scrape; empty when there is no such port."""
        return self._endpoint.url if self._endpoint is not None else ""

    @guard("the metrics page was not opened")
    def start(self) -> None:
        """Listen now, without waiting for a sign of life. Never raises, and does nothing the second time."""
        with self._opening:
            if self._endpoint is None and not self._is_shut_down:
                # Not before: most processes under the launcher never come to this.
                from .endpoint import Endpoint  # noqa: PLC0415

                self._endpoint = Endpoint()
            # A shutdown does not wait for this. It sets its flag, then closes the endpoint that it finds. If it finds
            # none yet, the flag is set by the time of this line.
            if self._endpoint is not None and not self._is_shut_down:
                self._endpoint.open()

    # A provider makes this one call to a reader that it takes over.
    def _set_collect_callback(self, func: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride, reportGeneralTypeIssues]
        super()._set_collect_callback(func)
        self._consumer = life.consumer_of(func)
        if self._consumer is not None:
            life.watch(self._consumer, self._wake)
        elif func is not None:
            self._wake()

    def _wake(self) -> None:
        """Start, in a thread: the code that has just recorded something does not wait for files and sockets."""
        try:
            threading.Thread(target=self.start, name="otel-mcp-endpoint", daemon=True).start()
        except Exception as error:
            # No thread can be started. The code that has recorded something must not get an exception for it.
            if not is_refused_at_the_end(error):
                report_failure("the metrics page was not opened", error)
        with guard("what this worker counts last is not kept for its successor"):
            if origin().is_worker:
                # Only a worker has a successor. Here and not in that thread, for it may be the main one.
                leaving.before_the_end(self.force_flush)
                if self._is_forked:
                    leaving.before_a_forked_child_ends()

    def _collect_alone(self) -> Iterable[PrometheusMetric]:
        with self._collecting:
            return list(self._collect_families())

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        """Pass on what the text format can express.

        The stock reader fails on an exponential histogram, and the whole scrape with it.
        """
        scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
        if any(isinstance(metric.data, ExponentialHistogram) for scope in scopes for metric in scope.metrics):
            metrics_data = self._expressible(metrics_data)
        # The stock reader leaves its keywords without annotations, here and in shutdown.
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]

    def _expressible(self, metrics_data: MetricsData) -> MetricsData:
        resources = [
            replace(
                resource,
                scope_metrics=[
                    replace(scope, metrics=[metric for metric in scope.metrics if self._is_expressible(metric)])
                    for scope in resource.scope_metrics
                ],
            )
            for resource in metrics_data.resource_metrics
        ]
        return replace(metrics_data, resource_metrics=resources)

    def _is_expressible(self, metric: Metric) -> bool:
        if not isinstance(metric.data, ExponentialHistogram):
            return True
        if metric.name not in self._skipped_metrics:
            self._skipped_metrics.add(metric.name)
            _logger.warning("%s is left out: Prometheus' text format has no exponential histograms", metric.name)
        return False

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Let nothing be lost with this process that can be kept: a worker's counters, for the one in its place.

        Otherwise there is nothing to do, for a scrape collects what it shows. (The stock reader would keep the result
        of this collection and add it to the next scrape, which then has every series twice.)
        """
        if self._endpoint is not None:
            self._endpoint.keep()
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the listener and leave the registry. A second call, and one without a listener, does no harm."""
        # Without the lock of an opening under way, which may take its time: this is done at exit. See `start`.
        self._is_shut_down = True
        if self._endpoint is not None:
            self._endpoint.close()
        # The registry no longer knows the collector after a first call.
        with suppress(KeyError):
            super().shutdown(timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]

    # At a fork.

    def pause(self) -> None:
        """Wait until what is under way has ended before the process forks, and let nothing begin.

        That is a collection, and the start in its thread: a child that was forked in the middle of an import waits for
        that import for ever, since the thread is not there to end it.
        """
        self._is_paused = self._opening.acquire(timeout=_FORK_SECONDS)
        if self._is_paused and not self._collecting.acquire(timeout=_FORK_SECONDS):
            self._opening.release()
            self._is_paused = False

    def resume(self) -> None:
        """Go on in the process that has forked."""
        if self._is_paused:
            self._is_paused = False
            self._collecting.release()
            self._opening.release()

    def begin_anew(self) -> None:
        """Be a reader that does not listen yet, in the child."""
        self._collecting = threading.Lock()
        self._is_paused = False
        self._opening = threading.Lock()
        self._is_forked = True
        inherited, self._endpoint = self._endpoint, None
        if inherited is not None:
            inherited.abandon()
        if self._consumer is not None:
            life.watch(self._consumer, self._wake)


_readers: weakref.WeakSet[PrometheusReader] = weakref.WeakSet()


def _each(method: Callable[[PrometheusReader], None]) -> Callable[[], None]:
    def at_fork() -> None:
        for reader in tuple(_readers):
            with guard("the metrics page was not prepared for a fork"):
                method(reader)

    return at_fork


if hasattr(os, "register_at_fork"):
    # Settles for the children where they come from.
    os.register_at_fork(before=origin)
    os.register_at_fork(
        before=_each(PrometheusReader.pause),
        after_in_parent=_each(PrometheusReader.resume),
        after_in_child=_each(PrometheusReader.begin_anew),
    )


def _options() -> dict[str, Any]:
    """The arguments of the stock reader that the environment sets."""
    options: dict[str, Any] = {}
    if _is_true(OTEL_INSTRUMENTATION_MCP_PROMETHEUS_WITHOUT_SCOPE_INFO):
        options["scope_info_enabled"] = False
    names = _attribute_names(OTEL_INSTRUMENTATION_MCP_PROMETHEUS_RESOURCE_LABELS)
    if names:
        options["resource_attribute_filter"] = names.__contains__
    return options


def _is_true(variable: str) -> bool:
    text = os.environ.get(variable, "").strip().lower()
    if text not in ("", "true", "false"):
        _logger.warning("%s=%r is neither true nor false; using false", variable, text)
    return text == "true"


def _attribute_names(variable: str) -> frozenset[str]:
    given = [name.strip() for name in os.environ.get(variable, "").split(",")]
    names = [name for name in given if _ATTRIBUTE_NAME.fullmatch(name)]
    wrong = [name for name in given if name and name not in names]
    if wrong:
        using = ", ".join(names) or "none"
        _logger.warning("%s: %s is no name of an attribute; using %s", variable, ", ".join(map(repr, wrong)), using)
    return frozenset(names)
