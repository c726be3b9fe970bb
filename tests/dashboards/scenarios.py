"""What happens to MCP servers and clients, and which alerts that must and must not fire.

Values are in promtool's notation, a sample a step: ``0+2x5`` is 0 2 4 6 8 10, ``_x5`` nothing for five steps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from opentelemetry_instrumentation_mcp.metrics import catalogue as c
from opentelemetry_instrumentation_mcp.metrics.exposition import prometheus_label, prometheus_name

JOB: Final = "mcp"
INSTANCE: Final = "localhost:9464"
LONG_BEFORE: Final = "-1000000"
"""When a process started that was there before Prometheus was."""

SERVICE_NAME: Final = "forecasts"
SERVICE_INSTANCE: Final = "8f0c3e52-6a1e-4d55-9d38-2b1c8f7e5a10"
"""What Prometheus makes ``job`` and ``instance`` of where it gets a process by OTLP."""

OF_TARGETS: Final = frozenset({"job", "instance", "service", "pid", "worker"})
"""Of the target, of one that a process has written into a file itself, and of a process with workers."""

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
        target: The labels that the target has besides job and instance.
        pushed: The labels of the alerts that fire if the same series come by OTLP; None is the same as in ``fires``.
        by_otlp: Whether the series come by OTLP: without ``up`` and process_start_time_seconds.
        often: How often the rules are evaluated: as often as the story needs it, since a long one takes long to tell.
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
    target: Mapping[str, str] = field(default_factory=dict[str, str])
    pushed: tuple[Mapping[str, str], ...] | None = None
    by_otlp: bool = False
    often: str = "1m"

    def __str__(self) -> str:
        rule = " ".join((self.alert, *self.which.values()))
        return f"{rule}: {self.name}{' (by OTLP)' if self.by_otlp else ''}"

    @property
    def job(self) -> str:
        return SERVICE_NAME if self.by_otlp else JOB

    def everything(self) -> Series:
        """Its series, and those that every process brings along."""
        rest = self.at + 20
        up = self.up if "x" in self.up else f"{self.up}x{rest}"
        memory = series(c.MEMORY_USAGE, **self.target)
        every: Series = {
            labelled("up", **self.target): up,
            labelled("process_start_time_seconds", **self.target): f"{self.started}x{rest}",
            memory: _measured(up),
        }
        if not self.by_otlp:
            return {**every, **self.series}
        return {_pushed(name): values for name, values in {memory: every[memory], **self.series}.items()}


def by_otlp(scenario: Scenario) -> Scenario:
    """The same story, told to Prometheus by OTLP."""
    fires = scenario.fires if scenario.pushed is None else scenario.pushed
    moved = tuple({**each, **({"instance": SERVICE_INSTANCE} if "instance" in each else {})} for each in fires)
    first = (_pushed(scenario.first[0]), scenario.first[1]) if scenario.first and fires else None
    return replace(scenario, fires=moved, first=first, by_otlp=True)


def nameless(scenario: Scenario) -> Scenario:
    """The same story, of a server without a name and of names that were too many to be kept."""

    def folded(name: str) -> str:
        name = re.sub(r'(mcp_server_name)="[^"]*"', r'\1=""', name)
        return re.sub(r'(gen_ai_tool_name|mcp_transport|pool|interceptor|error_type)="[^"]*"', r'\1="_OTHER"', name)

    return replace(scenario, series={folded(name): values for name, values in scenario.series.items()})


def _pushed(name: str) -> str:
    """A series as Prometheus names it where it comes by OTLP."""
    name = name.replace(f'job="{JOB}"', f'job="{SERVICE_NAME}"')
    name = name.replace(f'instance="{INSTANCE}"', f'instance="{SERVICE_INSTANCE}"')
    return re.sub(r'le="(\d+)\.0"', r'le="\1"', name)


def _measured(up: str) -> str:
    """The memory of a process at the times at which it could be reached."""
    found: list[str] = []
    for each in up.split():
        value, _, times = each.partition("x")
        there, count = value == "1", int(times or 0)
        found.append(f"50e6x{count}" if there else f"_x{count + 1}")
    return " ".join(found)


def series(metric: c.Metric, part: str = "", /, **labels: str) -> str:
    """A series of a metric; a label the metric does not have is refused."""
    known = {prometheus_label(attribute) for attribute in metric.attributes} | set(("le",) if part == "bucket" else ())
    assert set(labels) <= {*known, *OF_TARGETS}, (metric.name, set(labels) - known)
    name = f"{prometheus_name(metric)}_{part}" if part else prometheus_name(metric)
    return labelled(name, **labels)


def labelled(name: str, **labels: str) -> str:
    text = ",".join(f'{key}="{value}"' for key, value in {"job": JOB, "instance": INSTANCE, **labels}.items())
    return f"{name}{{{text}}}"


SERVICE: Final = {"mcp_role": "server", "mcp_direction": "inbound", "mcp_server_name": "weather"}


def requests(status: str, method: str = "tools/list", **labels: str) -> str:
    return series(c.REQUESTS_TOTAL, **{**SERVICE, "mcp_method_name": method, "status": status, **labels})


def calls(status: str, tool: str = "forecast", **labels: str) -> str:
    return requests(status, "tools/call", gen_ai_tool_name=tool, **labels)


def durations(metric: c.Metric, fast: str, slow: str, edge: str, slower: str, **labels: str) -> Series:
    """A histogram with some values below ``edge`` and some between it and ``slower``."""
    bucket = {"le": edge}, {"le": slower}, {"le": "+Inf"}
    values = fast, slow, slow
    return {series(metric, "bucket", **labels, **le): value for le, value in zip(bucket, values, strict=True)}


PAGE: Final = {"severity": "critical"}
TICKET: Final = {"severity": "warning"}
UNREACHABLE: Final = {"mcp_role": "client", "mcp_direction": "outbound"}


@dataclass(frozen=True)
class Burn:
    """One pair of windows of a rule.

    Attributes:
        which: The rule.
        long: The long window.
        step: How long a step is.
        window: The long window, in steps.
        quiet: How many steps it takes until no short window of the rule sees a failure any more.
        share: How many requests fail when too many do, of how many a step: too many for these windows alone.
        first: The requests that succeed, and how many failures at once are then too many.
        few: How many failures beside 20 successes are too many when a process has just started.
    """

    which: Mapping[str, str]
    long: str
    step: str
    window: int
    quiet: int
    share: tuple[int, int]
    first: tuple[str, int]
    few: int


def _burn(burn: Burn) -> tuple[Scenario, ...]:
    """What a pair of windows sees, and what it does not see any more."""
    failing, asked = burn.share
    # The long window need not be full: what has not been there yet is no success.
    since = min((burn.window + burn.quiet) // 2, burn.quiet + 60)
    end = since + 60

    def story(name: str, ok: str, failed: str, *fires: Mapping[str, str], at: int = end, **others: Any) -> Scenario:
        values = {requests("ok"): ok, requests("server_error"): failed}
        given: dict[str, Any] = {
            "step": burn.step,
            "which": burn.which,
            "often": "1m" if burn.step == "60s" else "5m",
            **others,
        }
        return Scenario("MCPErrorBudgetBurn", f"{name} ({burn.long})", values, at, fires, **given)

    before = 3 * asked * (since - burn.quiet)
    over = f"0x{end - since} 0+{3 * asked}x{since - burn.quiet} {before}x{burn.quiet}"
    succeeded, born = burn.first
    first, few = (requests("server_error"), burn.long), f"{burn.few}x9"
    return (
        story("too many fail", f"0+{asked - failing}x{end}", f"0+{failing}x{end}", SERVICE),
        story("too many failed a while ago", f"0+{asked}x{end}", over),
        story("the first failures ever, at once", succeeded, f"_x100 {born}x9", SERVICE, at=101, first=first),
        story(
            "a process fails from its first scrape on", "20x9", few, SERVICE, at=4, started="0", first=first, pushed=()
        ),
        story("an old process is scraped for the first time", "20x9", few, at=4),
    )


def _failures(which: Mapping[str, str], failing: int) -> tuple[Scenario, ...]:
    """A server that is asked 20 times a minute, and what counts as a failure."""
    end, half = 85, 42
    succeed, fail = 20 - failing, requests("server_error")

    def story(name: str, series: Series, *fires: Mapping[str, str], at: int = end, **others: Any) -> Scenario:
        return Scenario("MCPErrorBudgetBurn", name, series, at, fires, which=which, often="5m", **others)

    def fails(status: str) -> Series:
        return {requests("ok"): f"0+{succeed}x{end}", requests(status): f"0+{failing}x{end}"}

    return (
        story("too many are not answered", fails("connection_lost"), SERVICE),
        story("none fails", fails("ok")),
        story("callers ask wrongly", fails("client_error")),
        story("callers give up", fails("cancelled")),
        story("tools err", fails("tool_error")),
        story(
            "scrapes fail for a while, requests do not",
            {each: f"5000x{end} _x12 5000x20" for each in (requests("ok"), fail)},
            at=end + 16,
            up=f"1x{end} 0x11 1x20",
        ),
        story(
            "a server restarts and goes on failing",
            {
                requests("ok"): f"0+{succeed}x{half} 0+{succeed}x{half}",
                fail: f"0+{failing}x{half} 0+{failing}x{half}",
            },
            SERVICE,
        ),
    )


def _few(which: Mapping[str, str], name: str, ok: str, failed: str, *fires: Series, **others: Any) -> Scenario:
    """Of a server that is seldom asked."""
    values = {requests("ok"): ok, requests("server_error"): failed}
    return Scenario("MCPErrorBudgetBurn", name, values, 55, fires, "150s", which, often="5m", **others)


def _one_cause() -> tuple[Scenario, ...]:
    """What fails everywhere and always is one alert for each side that sees it."""
    caller = {**SERVICE, "mcp_role": "client", "mcp_direction": "outbound"}
    half = {requests("ok"): "0+10x60", requests("server_error"): "0+10x60"}
    seen_by_both = {
        **half,
        requests("ok", **caller): "0+10x60",
        requests("server_error", **caller): "0+10x60",
    }
    unreachable = {
        series(c.REQUESTS_TOTAL, **UNREACHABLE, mcp_method_name="initialize", status="connection_lost"): "0+5x60"
    }

    def story(which: Mapping[str, str], name: str, series: Series, *fires: Series) -> Scenario:
        return Scenario("MCPErrorBudgetBurn", name, series, 40, fires, which=which, often="5m")

    return (
        story(PAGE, "half of all fail", half, SERVICE),
        story(TICKET, "half of all fail, for which there is a page", half),
        story(PAGE, "both sides see it", seen_by_both, SERVICE, caller),
        story(TICKET, "both sides see it, and there is a page for each", seen_by_both),
        story(PAGE, "a server that cannot be reached has no name and no success to compare with", unreachable),
        story(TICKET, "a server cannot be reached", unreachable, UNREACHABLE),
    )


_QUIET = (
    _few(TICKET, "one of twenty requests fails, the first ever", "0+1x18 18x100", "_x50 1x50"),
    _few(
        TICKET,
        "two of twenty requests fail, the first ever",
        "0+1x18 18x100",
        "_x50 2x50",
        SERVICE,
        first=(requests("server_error"), "1d"),
    ),
    _few(TICKET, "one request, and it fails", "0x100", "0x50 1x50"),
    _few(TICKET, "three requests, and two fail", "0x20 1x80", "0x50 2x50"),
    _few(PAGE, "one of twelve requests fails", "0+1x11 11x100", "_x50 1x50"),
    _few(PAGE, "six of twelve requests fail", "0+1x6 6x100", "_x50 6x50", SERVICE),
    Scenario(
        "MCPErrorBudgetBurn",
        "one of three requests fails, which is no reason to wake anybody",
        {requests("ok"): "0x20 2x20", requests("server_error"): "0x20 1x20"},
        at=22,
        which=PAGE,
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

    def story(title: str, values: str, at: int, *fires: Series, first: bool = False, **others: Any) -> Scenario:
        return Scenario(alert, title, {name: values}, at, fires, first=(name, "10m") if first else None, **others)

    return (
        story("it happens", f"0x20 {enough}x20", 22, told),
        story("it happens for the first time ever", f"_x20 {enough}x20", 22, told, first=True),
        story(
            "it has happened when a new process is first scraped",
            f"{enough}x20",
            2,
            told,
            first=True,
            started="0",
            pushed=(),
        ),
        story("it happened before Prometheus was there", f"{enough}x20", 2),
        Scenario(
            alert,
            "it happens as soon as the SDK is imported, which takes a while",
            {name: f"_x5 {enough}x20", series(c.MEMORY_USAGE): "_x5 50e6x20"},
            7,
            (told,),
            pushed=(),
        ),
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
    target = {"pid": "2", "service": "agent"}
    name = series(c.DEAD_DETECTED, **_CLIENT, **_DEAD, **target)
    dead = {"pid": "1", "service": "agent"}
    story = {name: "_x20 1x20", labelled("up", **dead): "0x60", series(c.MEMORY_USAGE, **dead): "50e6x3"}
    told = {**_told(_CLIENT), **_DEAD}
    return (Scenario("MCPDeadServer", "the port of a dead process is used again", story, 22, (told,), target=target),)


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
    file = {"service": "weather", "pid": "4711"}
    of_file = series(c.MEMORY_USAGE, **file)

    def down(name: str, series: Series, at: int, up: str, *fires: Series, **others: Any) -> Scenario:
        # Nothing is down that nobody scrapes.
        return Scenario("MCPTargetDown", name, series, at, fires, up=up, which=PAGE, pushed=(), **others)

    def left(name: str, series: Series, at: int, up: str, *fires: Series, **others: Any) -> Scenario:
        given: dict[str, Any] = {"which": TICKET, "pushed": (), "target": file, **others}
        return Scenario("MCPTargetDown", name, series, at, fires, up=up, **given)

    def gone(name: str, series: Series, at: int, up: str, *fires: Series, **others: Any) -> Scenario:
        return Scenario("MCPTargetsMissing", name, series, at, fires, up=up, **others)

    return (
        down("a process ends", {memory: "50e6x30"}, 40, "1x30 0x30", here),
        down("it was scraped only once", {memory: "50e6 _x40"}, 30, "1 0x40", here),
        down("it is back after two minutes", {memory: "50e6x30 _x2 50e6x30"}, 40, "1x30 0x2 1x30"),
        down("two minutes so far", {memory: "50e6x30"}, 33, "1x30 0x30"),
        down("something else is down", {memory: "_", other: "1x30"}, 40, "1x30 0x30"),
        down("it was told to Prometheus, and never there", {}, 40, "0x60"),
        down("a process ends whose file is left", {of_file: "50e6x30"}, 90, "1x30 0x90", target=file),
        left("a process ends whose file is left", {of_file: "50e6x30"}, 90, "1x30 0x90", {**here, **file}),
        left("it is so for ten minutes", {of_file: "50e6x30"}, 40, "1x30 0x90"),
        left("another target is down", {memory: "50e6x30"}, 90, "1x30 0x90", target={}),
        left(
            "its port is used again",
            {of_file: "50e6x30", labelled("up", **{**file, "pid": "4712"}): "_x31 1x90"},
            90,
            "1x30 0x90",
        ),
        gone("service discovery knows nothing any more", {memory: "50e6x30"}, 50, "1x30", {}),
        gone("for some minutes so far", {memory: "50e6x30"}, 40, "1x30"),
        gone("it is down, which is another alert", {memory: "50e6x30"}, 50, "1x30 0x60", pushed=({},)),
        gone("all is well", {memory: "50e6x60"}, 50, "1x60"),
        gone("something else has gone", {memory: "_", other: "1x30"}, 50, "1x30"),
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

LONG: Final = 200
"""In steps: longer stories take long to tell, and the way by which series come is in the shorter ones."""

_SCRAPED: Final = (
    *_burn(Burn(PAGE, "1h", "60s", 60, 40, (5, 20), ("0+1x150", 60), 8)),
    *_burn(Burn(PAGE, "6h", "150s", 144, 22, (2, 20), ("0+1x150", 40), 8)),
    *_burn(Burn(TICKET, "1d", "150s", 576, 160, (1, 20), ("0+1x49 50x100", 4), 3)),
    *_burn(Burn(TICKET, "3d", "150s", 1728, 154, (1, 50), ("0+1x99 100x100", 3), 3)),
    *_failures(PAGE, 5),
    *_failures(TICKET, 1),
    *_one_cause(),
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

SCENARIOS: Final = (
    *_SCRAPED,
    *(by_otlp(each) for each in _SCRAPED if not each.target and each.at < LONG),
)
