"""Real servers, a real client and a real Prometheus with the shipped configuration: what every panel shows of them.

The servers are of the generation that is installed, and one of the other beside them where there is an environment that
has it: tox says where.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest

from dashboards.asking import FILES, RATIO, Answered, PanelQuery, Prometheus, filled, queries, variables
from opentelemetry_instrumentation_mcp.dashboards.command import main as command
from opentelemetry_instrumentation_mcp.metrics.outcome import error_reply

from ..ports import free_port
from ..sdk.generation import V2
from ..sdk.http import HEADERS, INITIALIZE, httpx
from .conftest import NewPython
from .environments import other_python
from .mixed_client import CALLS_PER_SECOND
from .processes import PATIENCE_SECONDS, Child, running
from .prometheus import configured_prometheus

ROOT: Final = Path(__file__).parents[2]
JOB: Final = "mcp"
STEADY_SECONDS: Final = 18.0
RATE_INTERVAL: Final = 10
QUERIES: Final = queries()


@dataclass
class Message:
    """One message that crossed a wire."""

    to_server: bool
    data: dict[str, Any]
    time: float


@dataclass
class World:
    """What has happened, by Prometheus and by those who were there.

    Attributes:
        prometheus: Where to ask.
        begun: When the first process started.
        settled: When Prometheus had seen everything.
        steady: A moment in the middle of the steady calls.
        wires: What crossed each wire.
        called: How many calls of each tool the client's application made.
        alerts: The alerts of that moment, with their words.
    """

    prometheus: Prometheus
    begun: float
    settled: float
    steady: float
    wires: list[list[Message]]
    called: Counter[str]
    alerts: list[dict[str, Any]]

    def ask(self, query: PanelQuery, at: float | None = None, rate_interval: int = RATE_INTERVAL) -> list[Answered]:
        """What a panel gets."""
        moment = self.settled if at is None else at
        expression = self._filled(query, moment, rate_interval)
        if query.instant:
            return self.prometheus.instant(expression, moment)
        return self.prometheus.over(expression, self.begun, moment, 1)

    def samples(self, query: PanelQuery, at: float) -> list[Answered]:
        """What was scraped of the series that a panel computes a rate of."""
        [selected] = re.findall(r"rate\((.*?\])\)", self._filled(query, at, RATE_INTERVAL))
        found = self.prometheus.get("query", query=selected, time=str(at))["result"]
        return [
            Answered(
                each["metric"], [float(value) for _, value in each["values"]], [time for time, _ in each["values"]]
            )
            for each in found
        ]

    def _filled(self, query: PanelQuery, moment: float, rate_interval: int) -> str:
        file = next(each for each in FILES if query.dashboard in each)
        seconds = math.ceil(moment - self.begun)
        return filled(query.expression, variables(file), seconds=seconds, rate_interval=rate_interval)

    def statuses(self) -> Counter[str]:
        """How the requests to the servers ended, by what crossed the wires."""
        found: Counter[str] = Counter()
        for wire in self.wires:
            asked = [message.data["id"] for message in wire if message.to_server and _is_request(message.data)]
            # What could not be parsed is answered as well, under an id that nobody has used, or none.
            ended = [
                _status(message.data)
                for message in wire
                if not message.to_server and _is_reply(message.data) and message.data.get("id") in asked
            ]
            found.update(ended)
            # Who gives a call up gets no reply.
            found["cancelled"] += len(asked) - len(ended)
        return +found

    def calls(self) -> Counter[str]:
        """How many calls of each tool reached the servers."""
        return Counter(
            message.data["params"]["name"]
            for wire in self.wires
            for message in wire
            if message.to_server and message.data.get("method") == "tools/call"
        )


def _is_request(data: dict[str, Any]) -> bool:
    return "method" in data and "id" in data


def _is_reply(data: dict[str, Any]) -> bool:
    return "result" in data or "error" in data


def _status(data: dict[str, Any]) -> str:
    if "error" in data:
        return error_reply(data["error"]["code"], data["error"]["message"]).status
    return "tool_error" if data["result"].get("isError") else "ok"


def _read_wire(path: Path) -> list[Message]:
    messages: list[Message] = []
    for row in path.read_text().splitlines():
        entry = json.loads(row)
        try:
            data = json.loads(entry["line"])
        except ValueError:
            continue
        if isinstance(data, dict):
            message = Message(entry["to_server"], cast("dict[str, Any]", data), entry.get("time", 0.0))
            messages.append(message)
    return messages


def _wait(
    failure: Callable[[], str], condition: Callable[[], bool], child: Child | None = None, seconds: float = 0
) -> None:
    deadline = time.monotonic() + seconds + PATIENCE_SECONDS
    while not condition():
        assert child is None or child.process.poll() is None, child.stderr
        assert time.monotonic() < deadline, failure()
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _strangers(url: str) -> None:
    """What comes from nobody's client: no JSON, no token, and a token that the verifier cannot cope with."""
    guarded = url.replace("/mcp", "/guarded/mcp")
    with httpx.Client(trust_env=False) as http:
        http.post(url, content=b"{", headers=HEADERS)
        http.post(guarded, json=INITIALIZE, headers=HEADERS)
        http.post(guarded, json=INITIALIZE, headers={**HEADERS, "authorization": "Bearer crash"})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, python: NewPython) -> Generator[World]:
    """Everything has happened once, and Prometheus has seen it."""
    directory, interpreter = tmp_path_factory.mktemp("dashboards"), python()
    other = other_python()
    interpreters = [interpreter, *([other] if other else [])]
    ports = [free_port() for _ in range(len(interpreters) + 2)]
    assert command(["write", str(directory / "monitoring")]) == 0
    configuration = directory / "monitoring" / "prometheus" / "prometheus.yml"
    # Nothing else is changed: a test has less time than a day has.
    text = configuration.read_text()
    assert text.count("_interval: 15s") == 2
    configuration.write_text(text.replace("_interval: 15s", "_interval: 1s"))
    targets = configuration.with_name("targets")
    (targets / "servers.yml").unlink()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_") and k != "PYTHONPATH"}
    variables = {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "NO_PROXY": "127.0.0.1",
        "XDG_RUNTIME_DIR": str(directory),
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        "OTEL_INSTRUMENTATION_MCP_PROMETHEUS_SD_DIR": str(targets),
    }
    urls = [f"http://127.0.0.1:{port}/mcp" for port in ports[: len(interpreters)]]
    records = [directory / f"wire-{number}.jsonl" for number in range(len(interpreters) + 1)]
    for path in records:
        path.touch()
    report = directory / "calls.json"

    def start(stack: ExitStack, python: Path, *arguments: str) -> Child:
        launcher = str(python.with_name("opentelemetry-instrument"))
        # What is installed in the other environment may be of yesterday.
        path = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))} if python == other else {}
        return stack.enter_context(running([launcher, str(python), *arguments], variables | path, directory))

    with ExitStack() as stack:
        prometheus = Prometheus(stack.enter_context(configured_prometheus(configuration, ports[-2])))
        # The system tells the start of a process to the second, and sometimes the one before.
        begun = time.time() - 2
        with ExitStack() as children:
            for each, port, path in zip(interpreters, ports, records, strict=False):
                server = start(children, each, "-m", "tests.e2e.mixed_server", str(port), str(path))
                _wait(lambda server=server: server.stderr, lambda port=port: _listens(port), server)
            # The tap is a program of the test's and not measured.
            stdio_server = [
                *(sys.executable, "-m", "tests.sdk.tap", str(records[-1])),
                *(str(interpreter.with_name("opentelemetry-instrument")), str(interpreter)),
                *("-c", "from tests.sdk import example; example.build().run('stdio')"),
            ]
            nowhere = f"http://127.0.0.1:{ports[-1]}/mcp"
            client = start(
                children,
                interpreter,
                *("-m", "tests.e2e.mixed_client", str(report), str(STEADY_SECONDS), nowhere),
                *(json.dumps(stdio_server), *urls),
            )
            for url in urls:
                _strangers(url)
            _wait(lambda: client.stderr, report.exists, client, STEADY_SECONDS + PATIENCE_SECONDS)
            wires = [_read_wire(path) for path in records]
            asked = sum(1 for wire in wires for each in wire if each.to_server and _is_request(each.data))

            called = Counter[str](json.loads(report.read_text()))

            inbound = 'mcp_role="server",mcp_direction="inbound"'
            sums = {
                f"sum(mcp_requests_total{{{inbound}}})": asked,
                'sum(mcp_requests_total{mcp_role="client",gen_ai_tool_name!=""})': called.total(),
                # The rules come after the scrapes.
                f"sum(mcp:requests:increase5m{{{inbound}}})": asked,
            }
            seen: dict[str, Any] = {}

            def all_seen() -> bool:
                now = time.time()
                seen.update({each: [answer.values for answer in prometheus.instant(each, now)] for each in sums})
                return seen == {expression: [[value]] for expression, value in sums.items()}

            _wait(lambda: f"{seen} instead of {sums}", all_seen)
            # One more round for the rules that are built on rules, and the alerts.
            time.sleep(2)
            settled = time.time()
            alerts = prometheus.get("alerts")["alerts"]
            # A scrape that is under way now must not fail: what it was to see would count as gone.
            time.sleep(1.5)
        steady = [each.time for wire in wires[:1] for each in wire if each.data.get("method") == "tools/call"]
        yield World(prometheus, begun, settled, steady[-1] - STEADY_SECONDS / 6, wires, called, alerts)


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_every_query_of_every_panel_has_an_answer(query: PanelQuery, world: World) -> None:
    answers = world.ask(query)
    assert answers, query.expression
    values = [value for answer in answers for value in answer.values]
    # Nothing is divided by 0, and nothing runs backwards.
    assert all(math.isfinite(value) and value >= 0 for value in values), query.expression
    if query.unit == RATIO:
        assert max(values) <= 1.0000001


def test_the_traffic_was_of_all_kinds(world: World) -> None:
    assert set(world.statuses()) == {"ok", "tool_error", "client_error", "server_error", "cancelled"} - (
        # A 1.x client that gives a call up does not tell the server, which finishes it.
        set() if V2 else {"cancelled"}
    )


def _panel(dashboard: str, panel: str, name: str = "") -> PanelQuery:
    [query] = [
        each for each in QUERIES if (each.dashboard, each.panel) == (dashboard, panel) and name in ("", each.name)
    ]
    return query


def _by(label: str, answers: list[Answered]) -> dict[str, float]:
    return {answer.labels.get(label, ""): answer.values[-1] for answer in answers if answer.values[-1]}


def test_the_totals_of_the_servers_are_what_crossed_the_wires(world: World) -> None:
    totals = _by("status", world.ask(_panel("mcp-server", "Requests since the processes started")))
    assert totals == world.statuses()


def test_the_calls_of_the_tools_table_are_what_crossed_the_wires(world: World) -> None:
    # All processes have started within the time range, so these are no estimates.
    assert _by("gen_ai_tool_name", world.ask(_panel("mcp-server", "Tools", "Calls"))) == world.calls()


def test_the_calls_of_the_client_are_what_its_application_made(world: World) -> None:
    assert _by("gen_ai_tool_name", world.ask(_panel("mcp-client", "Tools", "Calls"))) == world.called


def test_rare_failures_are_counted_from_the_first(world: World) -> None:
    """Two timeouts of one client: a counter that is born with the first of them."""
    [timeouts] = [
        answer
        for answer in world.ask(_panel("mcp-client", "Errors in the time range"))
        if answer.labels["status"] == "timeout"
    ]
    assert timeouts.values == [2]
    # A busy machine may need longer than the short interval until the process is scraped for the first time.
    errors = world.ask(_panel("mcp-client", "Connection errors"), rate_interval=60)
    [refused] = [each for each in errors if each.labels["error_type"] == "ConnectError"]
    assert max(refused.values) > 0


@pytest.mark.parametrize("dashboard", ["mcp-server", "mcp-client"])
def test_the_rate_of_a_tool_is_the_rate_on_the_wires(dashboard: str, world: World) -> None:
    at = world.steady
    times = [
        message.time
        for wire in world.wires[:-1]
        for message in wire
        if message.to_server and message.data.get("params", {}).get("name") == "ok"
    ]
    http = sum(1 for each in times if at - RATE_INTERVAL < each <= at) / RATE_INTERVAL
    # The tap of the stdio server has no clock; its client calls as often as the others. A busy machine falls behind.
    per_second = http * (len(world.wires) / (len(world.wires) - 1))
    assert per_second == pytest.approx(CALLS_PER_SECOND * len(world.wires), rel=0.3)

    panel = _panel(dashboard, "Calls by tool")
    scraped = [each for each in world.samples(panel, at) if each.labels["gen_ai_tool_name"] == "ok"]
    growths = [
        (each.values[-1] - each.values[0], each.times[-1] - each.times[0]) for each in scraped if len(each.times) > 1
    ]
    rate = sum(growth / seconds for growth, seconds in growths)
    # A machine that is too busy for two scrapes in this time has no rate of that process.
    assert len(growths) < len(scraped) or rate == pytest.approx(per_second, rel=0.3)
    # Prometheus extends what it has scraped to the whole interval, unless scrapes are missing at its ends.
    shown = _by("gen_ai_tool_name", world.ask(panel, at))["ok"]
    assert 0.99 * sum(growth for growth, _ in growths) / RATE_INTERVAL <= shown <= 1.01 * rate


def test_every_rule_is_evaluated_without_an_error(world: World) -> None:
    rules = [rule for group in world.prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert [(rule["name"], rule["health"], rule.get("lastError", "")) for rule in rules if rule["health"] != "ok"] == []


def test_the_tiles_show_the_ratios_of_the_wires(world: World) -> None:
    statuses, calls = world.statuses(), world.calls()
    shown = {name: world.ask(_panel("mcp-server", name))[0].values[-1] for name in ("Failed requests", "Tool errors")}
    assert shown == {
        "Failed requests": pytest.approx(statuses["server_error"] / statuses.total()),
        "Tool errors": pytest.approx(statuses["tool_error"] / calls.total()),
    }


def test_the_recorded_ratio_of_the_servers_is_that_of_the_wires(world: World) -> None:
    statuses = world.statuses()
    ratio = f'mcp:request_failures:ratio5m{{mcp_role="server",mcp_direction="inbound",job="{JOB}"}}'
    [recorded] = world.prometheus.instant(ratio, world.settled)
    assert recorded.values == [pytest.approx(statuses["server_error"] / statuses.total())]


def test_the_alerts_that_fire_are_those_there_is_a_reason_for(world: World) -> None:
    firing = world.prometheus.instant('ALERTS{alertstate="firing"}', world.settled)
    # The one request that reached nobody is too little for MCPErrorBudgetBurn.
    assert {each.labels["alertname"] for each in firing} == {
        "MCPToolErrorRatioHigh",
        "MCPInterceptorErrors",
        "MCPClientConnectionErrors",
    }
    tools = {each.labels.get("gen_ai_tool_name") for each in firing} - {None}
    assert tools == {"fail"}


def test_alerts_speak_in_values(world: World) -> None:
    assert world.alerts
    for alert in world.alerts:
        for text in alert["annotations"].values():
            # What a template cannot say it leaves in the text, in one of these ways.
            assert not any(sign in text for sign in ("{{", "<no value>", "<error", "NaN")), text
    [told] = [
        alert["annotations"]["description"]
        for alert in world.alerts
        if alert["labels"]["alertname"] == "MCPToolErrorRatioHigh" and alert["labels"]["mcp_role"] == "server"
    ]
    assert told.startswith("100% of the calls")
