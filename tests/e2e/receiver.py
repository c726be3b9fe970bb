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
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.trace.v1 import trace_pb2

from ..points import Point, Points
from ..spans import FoundSpan

# Without types.
grpc: Any = import_module("grpc")

DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


@dataclass
class Receiver:
    """What was exported so far.

    Attributes:
        grpc: The endpoint for OTLP over gRPC.
        http: The endpoint for OTLP over HTTP, without a path.
        requests: Every export of metrics, with its protocol, in the order of arrival.
        traces: Every export of traces.
    """

    grpc: str = ""
    http: str = ""
    requests: list[tuple[str, ExportMetricsServiceRequest]] = field(
        default_factory=list[tuple[str, ExportMetricsServiceRequest]]
    )
    traces: list[ExportTraceServiceRequest] = field(default_factory=list[ExportTraceServiceRequest])

    def spans(self) -> list[FoundSpan]:
        """Every span."""
        return [
            _span(span, scope.scope.name, _attributes(resource.resource.attributes).get("service.name", ""))
            for request in tuple(self.traces)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def exemplars(self, service: str, metric: str, method: str) -> set[str]:
        """The spans of the exemplars of a service's histogram for a method, in hexadecimal."""
        return {
            exemplar.span_id.hex()
            for _, request in tuple(self.requests)
            for resource in request.resource_metrics
            if _attributes(resource.resource.attributes).get("service.name") == service
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in each.histogram.data_points
            if _attributes(point.attributes).get("mcp.method.name") == method
            for exemplar in point.exemplars
        }

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


def _span(span: trace_pb2.Span, scope: str, service: str) -> FoundSpan:
    return FoundSpan(
        span.name,
        trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        _attributes(span.attributes),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        span.status.message,
        [link.span_id.hex() for link in span.links],
        scope,
        service,
    )


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

    def export_traces(request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
        receiver.traces.append(request)
        return ExportTraceServiceResponse()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/metrics":
                receiver.requests.append(("http", ExportMetricsServiceRequest.FromString(body)))
            elif self.path == "/v1/traces":
                receiver.traces.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if self.path in ("/v1/metrics", "/v1/traces") else 404)
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
    traces_method = grpc.unary_unary_rpc_method_handler(
        export_traces,
        request_deserializer=ExportTraceServiceRequest.FromString,
        response_serializer=ExportTraceServiceResponse.SerializeToString,
    )
    services = {
        "opentelemetry.proto.collector.metrics.v1.MetricsService": method,
        "opentelemetry.proto.collector.trace.v1.TraceService": traces_method,
    }
    grpc_server = grpc.server(ThreadPoolExecutor(4))
    for service, handler in services.items():
        grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
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
