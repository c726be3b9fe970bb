"""The metrics over HTTP, for a Prometheus to scrape: the stock exporter's reader with a listener that cannot fail.

A taken port or a wrong address costs a warning line that says where the metrics are instead, never the set-up of
OpenTelemetry. Nothing is written to stdout, and nothing at all when everything is as configured. What this module does
not do: gather the metrics of several processes in one place, or encrypt; each process serves its own, in the clear.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_PROMETHEUS_HOST, OTEL_EXPORTER_PROMETHEUS_PORT
from opentelemetry.sdk.metrics.export import ExponentialHistogram, Metric, MetricsData
from prometheus_client import REGISTRY, CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric as PrometheusMetric

_logger = logging.getLogger(__name__)

DEFAULT_HOST: Final = "localhost"
DEFAULT_PORT: Final = 9464
"""Both from the OpenTelemetry specification, "Environment Variable Specification", Prometheus exporter."""

_PORT_ERRORS: Final = (errno.EADDRINUSE, errno.EACCES)
"""Errors that another port may cure. Everything else is blamed on the host."""


class PrometheusReader(PrometheusMetricReader):
    """Serves this process' metrics at OTEL_EXPORTER_PROMETHEUS_HOST and OTEL_EXPORTER_PROMETHEUS_PORT.

    An unset or empty variable means the default, and so does a port that is no whole number from 0 to 65535. A port
    that cannot be bound is replaced by one of the system's choice on the same host (0 asks for that), a host that
    cannot be used by ``localhost``. Whatever is not as configured is said in one warning line with the URL.

    The metrics are in prometheus_client's global ``REGISTRY``, as the stock exporter's are: an application that serves
    this registry on its own serves ours with it.

    Attributes:
        host: The host listened on, as configured or replaced.
        port: The port listened on; 0 when there is no listener.
        url: Where to scrape; empty when there is no listener.
    """

    def __init__(self) -> None:
        """Start to listen. Never raises for what the environment says or the system refuses."""
        self._skipped_metrics: set[str] = set()
        super().__init__()
        self._server: WSGIServer | None = None
        self._pid = os.getpid()
        self.host = DEFAULT_HOST
        self.port = 0
        self.url = ""

        remarks: list[str] = []
        try:
            self._listen(remarks)
        except Exception as error:
            # The application does not depend on its metrics, whatever the reason is.
            remarks.append(f"cannot listen ({error})")
            _logger.warning("%s; the metrics of this process are not served", "; ".join(remarks))
            return
        if remarks:
            _logger.warning("%s; the metrics of this process are at %s", "; ".join(remarks), self.url)
        else:
            _logger.debug("the metrics of this process are at %s", self.url)

    def _listen(self, remarks: list[str]) -> None:
        """Bind and serve; put into ``remarks`` what is not as configured. Raises when no choice is left."""
        host = os.environ.get(OTEL_EXPORTER_PROMETHEUS_HOST, "").strip() or DEFAULT_HOST
        port = _configured_port(remarks)
        if port == 0:
            remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_PORT}=0 leaves the port to the system")
        while self._server is None:
            try:
                self._server, _ = start_http_server(port, _address(host), _OneScrapeAtATime())
            # A ValueError is a name that cannot even be looked up: `a..b`, or one of more than 63 letters.
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                if port and isinstance(error, OSError) and error.errno in _PORT_ERRORS:
                    remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_PORT}: cannot listen on {host}:{port} ({reason})")
                    port = 0
                elif host != DEFAULT_HOST:
                    remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_HOST}: cannot listen on {host!r} ({reason})")
                    host = DEFAULT_HOST
                else:
                    raise
        self.host = host
        self.port = self._server.server_port
        self.url = f"http://{_reachable_name(host)}:{self.port}/metrics"

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        """Pass on what the text format can express.

        The stock reader fails on an exponential histogram, and the whole scrape with it.
        """
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
        expressible = replace(metrics_data, resource_metrics=resources)
        # The stock reader leaves its keywords without annotations, here and in shutdown.
        super()._receive_metrics(expressible, timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]

    def _is_expressible(self, metric: Metric) -> bool:
        if not isinstance(metric.data, ExponentialHistogram):
            return True
        if metric.name not in self._skipped_metrics:
            self._skipped_metrics.add(metric.name)
            _logger.warning("%s is left out: Prometheus' text format has no exponential histograms", metric.name)
        return False

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing, with success: a scrape collects what it shows.

        The stock reader would keep the result of this collection and add it to the next scrape, which then has every
        series twice.
        """
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the listener and leave the registry. A second call, and one without a listener, does no harm."""
        server, self._server = self._server, None
        if server is not None:
            if os.getpid() == self._pid:
                # Wakes the serving thread on Linux; elsewhere it sees the request to stop within half a second.
                with suppress(OSError):
                    server.socket.shutdown(socket.SHUT_RDWR)
                server.shutdown()
            # In a forked child there is no thread to stop, and the socket is the parent's: only the copy is closed.
            server.server_close()
        # The registry no longer knows the collector after a first call.
        with suppress(KeyError):
            super().shutdown(timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]


class _OneScrapeAtATime(CollectorRegistry):
    """The global registry, for one scrape after another.

    In the stock reader two scrapes share one queue: rarely, but seen, one takes the other's metrics, so that one has
    every series twice and the other none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scraping = threading.Lock()

    def collect(self) -> Iterator[PrometheusMetric]:
        with self._scraping:
            return iter(list(REGISTRY.collect()))

    def restricted_registry(self, names: Iterable[str]) -> Any:
        # `?name[]=` in the URL.
        return REGISTRY.restricted_registry(names)


def _configured_port(remarks: list[str]) -> int:
    text = os.environ.get(OTEL_EXPORTER_PROMETHEUS_PORT, "").strip()
    if not text:
        return DEFAULT_PORT
    with suppress(ValueError):
        if 0 <= (port := int(text)) <= 65535:
            return port
    remarks.append(f"{OTEL_EXPORTER_PROMETHEUS_PORT}={text!r} is not a port")
    return DEFAULT_PORT


def _address(host: str) -> str:
    """What to bind for ``host``.

    For ``localhost`` it is the IPv4 loopback address. Bound by name it may become ``::1``, which a scraper that asks
    for 127.0.0.1 does not reach; the other way round, whoever resolves ``localhost`` to both tries both.
    """
    return "127.0.0.1" if host == DEFAULT_HOST else host


def _reachable_name(host: str) -> str:
    """What to write into a URL for ``host``: the wildcard addresses are for listening only."""
    if host in ("0.0.0.0", "::"):
        return DEFAULT_HOST
    return f"[{host}]" if ":" in host else host
