"""A small OTLP receiver: gRPC and HTTP into one account of what was exported."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric

from ..points import Point, Points

# Without types.
grpc: Any = import_module("grpc")

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


@dataclass
class Receiver:
    """What was exported so far.

    Attributes:
        grpc: The endpoint for OTLP over gRPC.
        http: The endpoint for OTLP over HTTP, without a path.
        requests: Every export, with its protocol, in the order of arrival.
    """

    grpc: str = ""
    http: str = ""
    requests: list[tuple[str, ExportMetricsServiceRequest]] = field(
        default_factory=list[tuple[str, ExportMetricsServiceRequest]]
    )

    def points(self) -> Points:
        """The totals: the last value of a cumulative series, the sum of a delta one."""
        totals: dict[tuple[str, tuple[tuple[str, Any], ...]], Point] = {}
        for _, request in tuple(self.requests):
            for metric in metrics(request):
                for point in _points(metric):
                    key = (point.metric, tuple(sorted(point.attributes.items())))
                    before = totals.get(key)
                    totals[key] = _sum(before, point) if before and is_delta(metric) else point
        return Points(totals.values())

    def temporalities(self) -> set[bool]:
        """Of the counters and histograms: True for delta, False for cumulative."""
        return {
            is_delta(metric)
            for _, request in self.requests
            for metric in metrics(request)
            if metric.HasField("histogram") or metric.sum.is_monotonic
        }


def metrics(request: ExportMetricsServiceRequest) -> list[Metric]:
    return [
        metric for resource in request.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
    ]


def is_delta(metric: Metric) -> bool:
    data = metric.histogram if metric.HasField("histogram") else metric.sum
    return data.aggregation_temporality == DELTA


def _points(metric: Metric) -> list[Point]:
    if metric.HasField("histogram"):
        return [
            Point(
                metric.name,
                _attributes(point.attributes),
                point.count,
                point.sum,
                list(point.explicit_bounds),
                list(point.bucket_counts),
            )
            for point in metric.histogram.data_points
        ]
    return [
        Point(metric.name, _attributes(point.attributes), point.as_int or point.as_double)
        for point in metric.sum.data_points
    ]


def _attributes(pairs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pair: KeyValue
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else None
    return found


def _sum(before: Point, point: Point) -> Point:
    buckets = [one + other for one, other in zip(before.buckets, point.buckets, strict=True)]
    return replace(point, value=before.value + point.value, total=before.total + point.total, buckets=buckets)


@contextmanager
def receiving() -> Generator[Receiver]:
    """A receiver on two free ports of the loopback."""
    receiver = Receiver()

    def export(request: ExportMetricsServiceRequest, context: object) -> ExportMetricsServiceResponse:
        receiver.requests.append(("grpc", request))
        return ExportMetricsServiceResponse()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/metrics":
                receiver.requests.append(("http", ExportMetricsServiceRequest.FromString(body)))
            self.send_response(200 if self.path == "/v1/metrics" else 404)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    method = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=ExportMetricsServiceRequest.FromString,
        response_serializer=ExportMetricsServiceResponse.SerializeToString,
    )
    service = "opentelemetry.proto.collector.metrics.v1.MetricsService"
    grpc_server = grpc.server(ThreadPoolExecutor(4))
    grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
    receiver.grpc = f"http://127.0.0.1:{grpc_server.add_insecure_port('127.0.0.1:0')}"
    grpc_server.start()
    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.http = f"http://127.0.0.1:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        http_server.shutdown()
        http_server.server_close()
        thread.join()
        grpc_server.stop(0).wait()
