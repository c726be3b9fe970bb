"""What happens to MCP servers and clients, and which alerts that must and must not fire.

Values are in promtool's notation, a sample a step: ``0+2x5`` is 0 2 4 6 8 10, ``_x5`` nothing for five steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label, prometheus_name

JOB: Final = "mcp"
INSTANCE: Final = "localhost:9464"
LONG_BEFORE: Final = "-1000000"
"""When a process started that was there before Prometheus was."""

Series = Mapping[str, str]


@dataclass(frozen=True)
class Scenario:
    """One story.

    Attributes:
        alert: The alert it is about.
        name: What happens.
        series: Series and their values.
        at: When the question is asked, in steps.
        fires: The labels of the alerts that fire then, without those every alert of the rule has.
        step: How long a step is.
        which: The labels that tell rules of one name apart.
        first: A series whose plain increase over the window that follows is 0: nothing but its birth tells.
        started: When the process started, in the values of process_start_time_seconds.
        up: What Prometheus says of the target.
    """

    alert: str
    name: str
    series: Series
    at: int
    fires: tuple[Mapping[str, str], ...] = ()
    step: str = "60s"
    which: Mapping[str, str] = field(default_factory=dict[str, str])
    first: tuple[str, str] | None = None
    started: str = LONG_BEFORE
    up: str = "1"

    def __str__(self) -> str:
        rule = " ".join((self.alert, *self.which.values()))
        return f"{rule}: {self.name}"


def series(metric: c.Metric, part: str = "", /, **labels: str) -> str:
    """A series of a metric; a label the metric does not have is refused."""
    known = {prometheus_label(attribute) for attribute in metric.attributes} | set(("le",) if part == "bucket" else ())
    assert set(labels) <= {*known, "pid"}, (metric.name, set(labels) - known)
    name = f"{prometheus_name(metric)}_{part}" if part else prometheus_name(metric)
    return labelled(name, **labels)


def labelled(name: str, **labels: str) -> str:
    text = ",".join(f'{key}="{value}"' for key, value in {"job": JOB, "instance": INSTANCE, **labels}.items())
    return f"{name}{{{text}}}"


SERVICE: Final = {"mcp_role": "server", "mcp_direction": "inbound", "mcp_server_name": "weather"}


def requests(status: str, method: str = "tools/list", **labels: str) -> str:
    return series(c.REQUESTS_TOTAL, **SERVICE, mcp_method_name=method, status=status, **labels)


def calls(status: str, tool: str = "forecast", **labels: str) -> str:
    return requests(status, "tools/call", gen_ai_tool_name=tool, **labels)


def durations(metric: c.Metric, fast: str, slow: str, edge: str, slower: str, **labels: str) -> Series:
    """A histogram with some values below ``edge`` and some between it and ``slower``."""
    bucket = {"le": edge}, {"le": slower}, {"le": "+Inf"}
    values = fast, slow, slow
    return {series(metric, "bucket", **labels, **le): value for le, value in zip(bucket, values, strict=True)}


def _burn(long: str, short: str, step: str, steps: tuple[int, int], failing: int) -> tuple[Scenario, ...]:
    """A server that is asked 20 times a step.

    Args:
        long: The long window.
        short: The short window.
        step: How long a step is.
        steps: How many steps the windows have.
        failing: How many of the 20 fail when too many do.
    """
    window, recent = steps
    end = window + recent + 20
    good = {requests("ok"): f"0+{20 - failing}x{end}"}

    def story(name: str, series: Series, *fires: Mapping[str, str], at: int = end, **others: Any) -> Scenario:
        which = {"long": long, "short": short}
        return Scenario("MCPErrorBudgetBurn", name, series, at, fires, step, which, **others)

    def fails(status: str) -> Series:
        return {**good, requests(status): f"0+{failing}x{end}"}

    since, until = window // 2, recent + 10
    over = f"0x{end - since} 0+20x{since - until} {20 * (since - until)}x{until}"
    born, half = _births(window, failing), end // 2
    return (
        story("too many fail", fails("server_error"), SERVICE),
        story("too many are not answered", fails("connection_lost"), SERVICE),
        story("none fails", fails("ok")),
        story("callers ask wrongly", fails("client_error")),
        story("callers give up", fails("cancelled")),
        story("tools err", fails("tool_error")),
        story("too many failed until a while ago", {requests("ok"): f"0+20x{end}", requests("server_error"): over}),
        story(
            "the first failures ever, at once",
            {requests("ok"): f"0+1x{end}", requests("server_error"): f"_x{end - 1} {born}x9"},
            SERVICE,
            first=(requests("server_error"), long),
        ),
        story(
            "a process fails from its first scrape on",
            {requests("ok"): "20x9", requests("server_error"): f"{failing + 3}x9"},
            SERVICE,
            at=4,
            started="0",
            first=(requests("server_error"), long),
        ),
        story(
            "an old process is scraped for the first time",
            {requests("ok"): "20x9", requests("server_error"): f"{failing + 3}x9"},
            at=4,
        ),
        story(
            "scrapes fail for a while, requests do not",
            {each: f"5000x{end} _x12 5000x20" for each in (requests("ok"), requests("server_error"))},
            at=end + 16,
            up=f"1x{end} 0x12 1x20",
        ),
        story(
            "a server restarts and goes on failing",
            {
                requests("ok"): f"0+{20 - failing}x{half} 0+{20 - failing}x{half}",
                requests("server_error"): f"0+{failing}x{half} 0+{failing}x{half}",
            },
            SERVICE,
        ),
    )


def _births(window: int, failing: int) -> int:
    """How many failures among one good request a step are too many, soon after they are born."""
    return 3 * window * failing // (20 - failing)


_QUIET = (
    Scenario(
        "MCPErrorBudgetBurn",
        "the first request ever that fails, of a server that is seldom asked",
        {requests("ok"): "0+1x19 19x100", requests("server_error"): "_x50 1x50"},
        at=55,
        fires=(SERVICE,),
        step="150s",
        which={"long": "1d", "short": "2h"},
        first=(requests("server_error"), "1d"),
    ),
    Scenario(
        "MCPErrorBudgetBurn",
        "one of three requests fails, which is no reason to wake anybody",
        {requests("ok"): "0x20 2x20", requests("server_error"): "0x20 1x20"},
        at=22,
        which={"long": "1h", "short": "5m"},
    ),
)

_CLIENT: Final = {"mcp_role": "client", "mcp_transport": "stdio"}
_SERVER: Final = {"mcp_role": "server", "mcp_transport": "streamable_http"}


def _told(labels: Mapping[str, str]) -> Series:
    """The labels of an alert that does not keep the role."""
    return {key: value for key, value in labels.items() if key != "mcp_role"}


def _latency() -> tuple[Scenario, ...]:
    call = {**SERVICE, "mcp_method_name": "tools/call", "gen_ai_tool_name": "forecast"}
    of_a_model = {**SERVICE, "mcp_direction": "outbound", "mcp_method_name": "sampling/createMessage"}

    def story(name: str, fast: str, slow: str, at: int, *fires: Series, **labels: str) -> Scenario:
        values = durations(c.REQUEST_DURATION, fast, slow, "5.0", "10.0", **(labels or call))
        return Scenario("MCPRequestLatencyHigh", name, values, at, fires)

    return (
        story("every call is slow", "0x60", "0+1x60", 30, call),
        story("a tool is slow from its first call on", "_x20 0x60", "_x20 3+1x60", 35, call),
        story("one in ten is slow", "0+9x60", "0+10x60", 30, call),
        story("one in a hundred is slow", "0+99x60", "0+100x60", 30),
        story("all are fast", "0+1x60", "0+1x60", 30),
        story("the first call ever was slow, and the only one", "_x20 0x60", "_x20 1x60", 31),
        story("slow for five minutes", "0x60", "0x20 0+1x5 5x60", 29),
        story("a model takes its time", "0x60", "0+1x60", 30, **of_a_model),
    )


def _tools() -> tuple[Scenario, ...]:
    tool = {**SERVICE, "gen_ai_tool_name": "forecast"}
    lost = calls("connection_lost")

    def story(name: str, series: Series, *fires: Series, first: tuple[str, str] | None = None) -> Scenario:
        return Scenario("MCPToolErrorRatioHigh", name, series, 22, fires, first=first)

    return (
        story("a third of the calls err", {calls("ok"): "0+2x30", calls("tool_error"): "0+1x30"}, tool),
        story("its first five calls ever err", {calls("ok"): "0x30", calls("tool_error"): "0x20 5x10"}, tool),
        story(
            "five calls end as none did before",
            {calls("ok"): "0+1x30", lost: "_x20 5x10"},
            tool,
            first=(lost, "15m"),
        ),
        story("a tenth errs", {calls("ok"): "0+9x30", calls("tool_error"): "0+1x30"}),
        story("the first call errs, and the only one", {calls("ok"): "0x30", calls("tool_error"): "0x20 1x10"}),
        story("callers give up", {calls("ok"): "0+1x30", calls("cancelled"): "0+9x30"}),
        story(
            "another tool errs, this one never",
            {calls("ok"): "0+5x30", calls("tool_error", "other"): "0+1x30", calls("ok", "other"): "0+9x30"},
        ),
    )


def _events(
    alert: str, metric: c.Metric, labels: Series, told: Series, enough: int, too_few: int, *others: Scenario
) -> tuple[Scenario, ...]:
    """Something happens ``enough`` times, or less."""
    name = series(metric, **labels)

    def story(
        title: str, values: str, at: int, *fires: Series, first: bool = False, started: str = LONG_BEFORE
    ) -> Scenario:
        return Scenario(
            alert, title, {name: values}, at, fires, first=(name, "10m") if first else None, started=started
        )

    return (
        story("it happens", f"0x20 {enough}x20", 22, told),
        story("it happens for the first time ever", f"_x20 {enough}x20", 22, told, first=True),
        story("it has happened when a new process is first scraped", f"{enough}x20", 2, told, first=True, started="0"),
        story("it happened before Prometheus was there", f"{enough}x20", 2),
        story("it happened half an hour ago", f"0x20 {enough}x60", 50),
        story("it does not happen", "0x40", 30),
        *((story("it happens too seldom", f"_x20 {too_few}x20", 22),) if too_few else ()),
        *others,
    )


def _sessions() -> tuple[Scenario, ...]:
    labels = {"mcp_role": "server", "mcp_server_name": "weather"}
    active = series(c.SESSIONS_ACTIVE, **labels, mcp_transport="streamable_http", mcp_protocol_version="2025-11-25")

    def story(name: str, sessions: str, requested: str, at: int, *fires: Series) -> Scenario:
        # Every new session makes a request, the one that begins it.
        begun = {requests("ok", "initialize"): "0+1x60 60+10x140"}
        values = {active: sessions, requests("ok", "resources/list"): requested, **begun}
        return Scenario("MCPSessionLeak", name, values, at, fires)

    steady, growing = "0+10x200", "0+10x60 600+30x140"
    return (
        story("sessions grow, requests do not", "5x60 5+1x140", steady, 160, labels),
        story("sessions grow from the first ever", "0x60 0+1x140", steady, 160, labels),
        story("sessions grow and nobody asks anything", "5x60 5+1x140", "0x200", 160, labels),
        story("both grow", "5x60 5+1x140", growing, 160),
        story("sessions stay", "40x200", steady, 160),
        story("some sessions more", "5x60 9x140", steady, 115),
        story("a restart, and all come back", "50x60 0x2 50x138", steady, 132),
        story("twenty minutes of it so far", "5x60 5+1x140", steady, 89),
    )


def _twice() -> tuple[Scenario, ...]:
    """A process was killed, and another one has its port: both are targets."""
    name = series(c.DEAD_DETECTED, **_CLIENT, **_DEAD, pid="2")
    story = {name: "_x20 1x20", labelled("up", pid="1"): "0x60", labelled("up", pid="2"): "1x60"}
    return (
        Scenario(
            "MCPDeadServer", "the port of a dead process is used again", story, 22, ({**_told(_CLIENT), **_DEAD},)
        ),
    )


def _evictions() -> tuple[Scenario, ...]:
    told = {"mcp_transport": "streamable_http"}
    name = series(c.SESSIONS_EVICTED, **told, reason="idle_timeout")

    def story(title: str, values: str, at: int, *fires: Series, first: tuple[str, str] | None = None) -> Scenario:
        return Scenario("MCPSessionEvictionsSurge", title, {name: values}, at, fires, first=first)

    return (
        story("many at once", "0x20 15x20", 22, told),
        story("the first ever, and many", "_x20 15x20", 22, told, first=(name, "15m")),
        story("many more than usual", "0+1x400 400+8x20", 415, told),
        story("as many as usual", "0+1x420", 415),
        story("some", "0x20 5x20", 22),
        story("none", "0x40", 22),
    )


def _pool() -> tuple[Scenario, ...]:
    pool = {"pool": "http://weather:8000"}
    told = {"instance": INSTANCE, **pool}

    def story(name: str, fast: str, slow: str, at: int, *fires: Series) -> Scenario:
        values = durations(c.POOL_WAIT_DURATION, fast, slow, "0.25", "0.5", **pool)
        return Scenario("MCPPoolSaturated", name, values, at, fires)

    return (
        story("requests wait", "0x60", "0+5x60", 30, told),
        story("the first requests ever wait", "_x20 0x60", "_x20 5+5x60", 27, told),
        story("they get a connection at once", "0+5x60", "0+5x60", 30),
        story("they waited for a minute", "0x20 0+50x40", "0x20 9+50x40", 30),
    )


def _targets() -> tuple[Scenario, ...]:
    memory, other = series(c.MEMORY_USAGE), labelled("python_info", version="3.11")
    here = {"instance": INSTANCE}

    def story(alert: str, name: str, series: Series, at: int, up: str, *fires: Series) -> Scenario:
        return Scenario(alert, name, series, at, fires, up=up)

    down, gone = "MCPTargetDown", "MCPTargetsMissing"
    return (
        story(down, "a process ends", {memory: "50e6x30"}, 40, "1x30 0x30", here),
        story(down, "it was scraped only once", {memory: "50e6 _x40"}, 30, "1 0x40", here),
        story(down, "it is back after two minutes", {memory: "50e6x30 _x2 50e6x30"}, 40, "1x30 0x2 1x30"),
        story(down, "two minutes so far", {memory: "50e6x30"}, 33, "1x30 0x30"),
        story(down, "something else is down", {other: "1x30"}, 40, "1x30 0x30"),
        story(down, "it was told to Prometheus, and never there", {}, 40, "0x60"),
        story(gone, "service discovery knows nothing any more", {memory: "50e6x30"}, 50, "1x30", {}),
        story(gone, "for some minutes so far", {memory: "50e6x30"}, 40, "1x30"),
        story(gone, "it is down, which is another alert", {memory: "50e6x30"}, 50, "1x30 0x60"),
        story(gone, "all is well", {memory: "50e6x60"}, 50, "1x60"),
        story(gone, "something else has gone", {other: "1x30"}, 50, "1x30"),
    )


def _folded() -> tuple[Scenario, ...]:
    other = "_OTHER"
    named = {
        "gen_ai_tool_name": calls("ok", other),
        "gen_ai_prompt_name": requests("ok", "prompts/get", gen_ai_prompt_name=other),
        "mcp_method_name": requests("ok", other),
        "mcp_server_name": series(c.REQUESTS_TOTAL, mcp_server_name=other, mcp_method_name="ping", status="ok"),
        "interceptor": series(c.INTERCEPTOR_ACTIONS, interceptor=other, action="continue"),
        "pool": series(c.POOL_CREATED, pool=other),
    }
    fires = tuple(
        Scenario(
            "MCPLabelsFolded",
            f"a {label} too many, for the first time",
            {name: "_x20 1x20"},
            22,
            ({"instance": INSTANCE, "label": label},),
            first=(name, "1h"),
        )
        for label, name in named.items()
    )
    unknown = {calls("tool_error", other): "_x20 9x20", requests("client_error", other): "_x20 9x20"}
    return (
        *fires,
        Scenario("MCPLabelsFolded", "names that peers invent", unknown, 22),
        Scenario("MCPLabelsFolded", "names as they are", {calls("ok"): "0+1x40"}, 22),
    )


_DEAD: Final = {"reason": "peer_closed"}
_REFUSED: Final = {"error_type": "ConnectError"}
_BROKEN: Final = {"interceptor": "Verifier", "error_type": "RuntimeError"}

SCENARIOS: Final = (
    *_burn("1h", "5m", "60s", (60, 5), 5),
    *_burn("6h", "30m", "150s", (144, 12), 2),
    *_burn("1d", "2h", "150s", (576, 48), 1),
    *_burn("3d", "6h", "150s", (1728, 144), 1),
    *_QUIET,
    *_latency(),
    *_tools(),
    *_events("MCPDeadServer", c.DEAD_DETECTED, {**_CLIENT, **_DEAD}, {**_told(_CLIENT), **_DEAD}, 1, 0),
    *_events("MCPDeadClients", c.DEAD_DETECTED, {**_SERVER, **_DEAD}, {**_told(_SERVER), **_DEAD}, 6, 2),
    *_events(
        "MCPClientConnectionErrors", c.CONNECTION_ERRORS, {**_CLIENT, **_REFUSED}, {**_told(_CLIENT), **_REFUSED}, 1, 0
    ),
    *_events(
        "MCPServerConnectionErrors", c.CONNECTION_ERRORS, {**_SERVER, **_REFUSED}, {**_told(_SERVER), **_REFUSED}, 12, 3
    ),
    *_twice(),
    *_sessions(),
    *_evictions(),
    *_pool(),
    *_events("MCPInterceptorErrors", c.INTERCEPTOR_ERRORS, _BROKEN, _BROKEN, 1, 0),
    *_targets(),
    *_folded(),
)
