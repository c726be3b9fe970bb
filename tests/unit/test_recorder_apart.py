"""What belongs to no connection: errors of the line, tasks, interceptors, the pools of HTTP clients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View

from opentelemetry_instrumentation_mcp.metrics import catalogue
from opentelemetry_instrumentation_mcp.metrics.events import Recorder
from opentelemetry_instrumentation_mcp.metrics.labels import OTHER
from opentelemetry_instrumentation_mcp.metrics.limits import Limits
from opentelemetry_instrumentation_mcp.metrics.outcome import End
from opentelemetry_instrumentation_mcp.metrics.vocabulary import Action, Mode, Phase, Role, Transport

from ..points import ERROR, MODE, ROLE, TRANSPORT, Points
from .recording import Collect, connect, one

_quiet = pytest.mark.usefixtures("nothing_is_swallowed")

_ERRORS = "mcp.connection.errors"
_ACTIONS = "mcp.interceptor.actions"
_OWN_TIME = "mcp.interceptor.duration"
_FAILURES = "mcp.interceptor.errors"
_CREATED = "mcp.pool.connections.created"
_REUSED = "mcp.pool.connections.reused"
_IDLE = "mcp.pool.connections.idle"
_WAIT = "mcp.pool.wait.duration"


@_quiet
class TestConnectionErrors:
    @pytest.mark.parametrize("role", Role)
    @pytest.mark.parametrize("error", ["ConnectError", 503, -32700])
    def test_an_error_says_whose_and_which_transports_it_was(
        self, recorder: Recorder, collect: Collect, role: Role, error: str | int
    ) -> None:
        for _ in range(2):
            recorder.connection_error(role, Transport.SSE, error)
        point = one(collect(), _ERRORS)
        assert (point.attributes, point.value) == ({ROLE: role.value, TRANSPORT: "sse", ERROR: str(error)}, 2)

    def test_an_error_is_no_connection_and_no_death(self, recorder: Recorder, collect: Collect) -> None:
        recorder.connection_error(Role.CLIENT, Transport.STDIO, "FileNotFoundError")
        assert {point.metric for point in collect().all} == {_ERRORS, "mcp.memory.usage"}

    def test_class_names_are_bounded_and_codes_and_statuses_take_no_place(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(exceptions=1))
        for error in (401, 503, -32700, "ConnectError", "ReadError", "ConnectError", 413):
            recorder.connection_error(Role.SERVER, Transport.STREAMABLE_HTTP, error)
        recorder.retire()
        assert collect().by(ERROR, _ERRORS) == {
            "401": 1,
            "503": 1,
            "-32700": 1,
            "413": 1,
            "ConnectError": 2,
            OTHER: 1,
        }

    def test_one_table_has_the_exceptions_of_everything(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(exceptions=1))
        recorder.connection_error(Role.CLIENT, Transport.STDIO, "KeyError")
        recorder.interceptor("Guard").acted(Action.ERROR, "ValueError")
        connect(recorder).close(End.ERROR, "OSError")
        recorder.retire()
        points = collect()
        assert points.by(ERROR, _ERRORS) == {"KeyError": 1}
        assert points.by(ERROR, _FAILURES) == {OTHER: 1}
        assert points.by(ERROR, "mcp.connection.duration") == {OTHER: 1}

    @pytest.mark.parametrize("name", ["", "-", "Error404", "404Error", "12.5"])
    def test_what_only_looks_like_a_number_is_a_name(
        self, provider: MeterProvider, collect: Collect, name: str
    ) -> None:
        recorder = Recorder(provider, Limits(exceptions=0))
        recorder.connection_error(Role.CLIENT, Transport.STDIO, name)
        recorder.retire()
        assert collect().by(ERROR, _ERRORS) == {OTHER: 1}


@_quiet
@pytest.mark.parametrize("role", Role)
def test_a_task_is_one_of_the_side_that_started_it(recorder: Recorder, collect: Collect, role: Role) -> None:
    for _ in range(300):
        recorder.task_started(role)
    point = one(collect(), "mcp.task.spawns")
    assert (point.attributes, point.value) == ({ROLE: role.value}, 300)


@_quiet
class TestInterceptors:
    @pytest.mark.parametrize("action", Action)
    def test_what_an_interceptor_did_is_counted(self, recorder: Recorder, collect: Collect, action: Action) -> None:
        for _ in range(2):
            recorder.interceptor("Guard").acted(action, "ValueError")
        point = one(collect(), _ACTIONS)
        assert (point.attributes, point.value) == ({"interceptor": "Guard", "action": action.value}, 2)

    def test_an_error_is_an_action_and_has_a_name(self, recorder: Recorder, collect: Collect) -> None:
        recorder.interceptor("Guard").acted(Action.ERROR, "ValueError")
        point = one(collect(), _FAILURES)
        assert (point.attributes, point.value) == ({"interceptor": "Guard", ERROR: "ValueError"}, 1)

    @pytest.mark.parametrize("action", [action for action in Action if action is not Action.ERROR])
    def test_nothing_but_an_error_is_an_error(self, recorder: Recorder, collect: Collect, action: Action) -> None:
        recorder.interceptor("Guard").acted(action, "ValueError")
        assert not collect().select(_FAILURES)

    def test_an_error_without_a_name_is_an_error_all_the_same(self, recorder: Recorder, collect: Collect) -> None:
        recorder.interceptor("Guard").acted(Action.ERROR)
        assert collect().by(ERROR, _FAILURES) == {OTHER: 1}

    def test_own_time_is_told_apart_by_phase(self, recorder: Recorder, collect: Collect) -> None:
        for seconds in (0.25, 0.5):
            recorder.interceptor("Guard").dealt(seconds, None, Action.REJECT)
        recorder.interceptor("Guard").dealt(0.0, 0.125, Action.MODIFY)
        points = collect()
        before, after = (one(points, _OWN_TIME, {"phase": phase.value}) for phase in Phase)
        assert (before.value, before.total, before.attributes) == (
            3,
            0.75,
            {"interceptor": "Guard", "phase": "request"},
        )
        assert (after.value, after.total) == (1, 0.125)
        assert tuple(before.bounds) == catalogue.REQUEST_SECONDS

    def test_interceptors_are_named_up_to_their_limit_and_by_the_same_names_everywhere(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(interceptors=2))
        for number in (0, 1, 2, 3, 0):
            recorder.interceptor(f"i{number}").dealt(0.1, None, Action.ERROR, "ValueError")
        recorder.retire()
        points = collect()
        for metric in (_OWN_TIME, _ACTIONS, _FAILURES):
            assert points.by("interceptor", metric) == {"i0": 2, "i1": 1, OTHER: 2}


@_quiet
class TestPools:
    @pytest.mark.parametrize(("created", "moved", "still"), [(True, _CREATED, _REUSED), (False, _REUSED, _CREATED)])
    def test_a_connection_is_either_new_or_used_again_and_was_waited_for(
        self, recorder: Recorder, collect: Collect, created: bool, moved: str, still: str
    ) -> None:
        for waited in (0.25, 0.5):
            recorder.pooled("https://mcp.example:443", created=created, waited=waited)
        points = collect()
        point = one(points, moved)
        assert (point.attributes, point.value) == ({"pool": "https://mcp.example:443"}, 2)
        assert not points.select(still)
        wait = one(points, _WAIT)
        assert (wait.attributes, wait.value, wait.total) == ({"pool": "https://mcp.example:443"}, 2, 0.75)
        assert tuple(wait.bounds) == catalogue.REQUEST_SECONDS

    def test_pools_are_named_up_to_their_limit_and_by_the_same_names_everywhere(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(pools=2))
        for number in (0, 1, 2, 3, 0):
            for created in (True, False):
                recorder.pooled(f"http://p{number}:80", created=created, waited=0.1)
        recorder.idle_connections = lambda: {f"http://p{number}:80": number for number in range(4)}
        points = collect()
        recorder.retire()
        named = {"http://p0:80": 2, "http://p1:80": 1, OTHER: 2}
        assert points.by("pool", _CREATED) == points.by("pool", _REUSED) == named
        assert points.sum(_WAIT) == 10
        assert {point.attributes["pool"]: point.value for point in points.select(_IDLE)} == {
            "http://p0:80": 0,
            "http://p1:80": 1,
            OTHER: 5,
        }

    def test_a_process_without_a_pool_has_no_idle_connections(self, recorder: Recorder, collect: Collect) -> None:
        connect(recorder, Role.CLIENT, Transport.STREAMABLE_HTTP)
        assert not collect().select(_IDLE)

    def test_idle_connections_are_those_of_the_moment_of_collection(self, recorder: Recorder, collect: Collect) -> None:
        idle = {"http://p:80": 0}
        recorder.idle_connections = lambda: idle
        seen: list[float] = []
        for count in (0, 3, 1, 0):
            idle["http://p:80"] = count
            seen.append(one(collect(), _IDLE).value)
        assert seen == [0, 3, 1, 0]

    def test_they_are_asked_for_once_a_collection_and_not_otherwise(self, recorder: Recorder, collect: Collect) -> None:
        asked: list[int] = []

        def idle() -> dict[str, int]:
            asked.append(len(asked))
            return {"http://p:80": 1}

        recorder.idle_connections = idle
        recorder.pooled("http://p:80", created=True, waited=0.0)
        assert asked == []
        for _ in range(2):
            collect()
        assert asked == [0, 1]

    def test_the_first_pools_keep_their_names_though_others_are_idle_now(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorder = Recorder(provider, Limits(pools=1))
        recorder.pooled("http://first:80", created=True, waited=0.0)
        for pool in ("http://second:80", "http://first:80"):
            idle = {pool: 1}
            recorder.idle_connections = lambda idle=idle: idle
            expected = pool if "first" in pool else OTHER
            assert {point.attributes["pool"]: point.value for point in collect().select(_IDLE)} == {expected: 1}
        recorder.retire()

    def test_idle_pools_are_within_the_bound_of_attribute_sets(self, provider: MeterProvider, collect: Collect) -> None:
        recorder = Recorder(provider, Limits(attribute_sets=10))
        recorder.idle_connections = lambda: {f"http://p{number}:80": 1 for number in range(50)}
        points = collect()
        recorder.retire()
        assert points.sum(_IDLE) == 50
        assert len(points.select(_IDLE)) <= 10


def test_pools_that_cannot_be_asked_cost_one_metric_of_one_collection(
    recorder: Recorder, collect: Collect, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> dict[str, int]:
        raise RuntimeError("dictionary changed size during iteration")

    connect(recorder)
    recorder.idle_connections = broken
    points = collect()
    assert not points.select(_IDLE)
    assert points.sum("mcp.connections.total") == 1
    assert points.select("mcp.memory.usage")
    (record,) = caplog.records
    assert "a metric was lost in _observe_idle" in record.getMessage()
    recorder.idle_connections = lambda: {"http://p:80": 1}
    assert one(collect(), _IDLE).value == 1


@_quiet
class TestObservation:
    """The two callbacks, which belong to a provider and ask the recorders at work on it."""

    @pytest.fixture
    def pairs(self) -> Iterator[list[tuple[Recorder, InMemoryMetricReader]]]:
        readers = [InMemoryMetricReader(), InMemoryMetricReader()]
        providers = [MeterProvider([reader]) for reader in readers]
        recorders = [Recorder(provider, Limits()) for provider in providers]
        yield list(zip(recorders, readers, strict=True))
        for recorder, provider in zip(recorders, providers, strict=True):
            recorder.retire()
            provider.shutdown()

    def test_two_recorders_on_two_providers_observe_what_is_theirs(
        self, pairs: list[tuple[Recorder, InMemoryMetricReader]]
    ) -> None:
        for number, (recorder, _) in enumerate(pairs, 1):
            recorder.idle_connections = lambda number=number: {f"http://p{number}:80": number}
        for number, (_, reader) in enumerate(pairs, 1):
            points = Points.of(reader)
            assert {point.attributes["pool"]: point.value for point in points.select(_IDLE)} == {
                f"http://p{number}:80": number
            }
            assert len(points.select("mcp.memory.usage")) == 1

    @pytest.mark.parametrize(("first", "second"), list(permutations(range(2))))
    def test_retiring_one_leaves_the_other_observed(
        self, pairs: list[tuple[Recorder, InMemoryMetricReader]], first: int, second: int
    ) -> None:
        for recorder, _ in pairs:
            recorder.idle_connections = lambda: {"http://p:80": 2}
        pairs[first][0].retire()
        retired, left = Points.of(pairs[first][1]), Points.of(pairs[second][1])
        assert not retired.select(_IDLE)
        assert not retired.select("mcp.memory.usage")
        assert one(left, _IDLE).value == 2
        assert len(left.select("mcp.memory.usage")) == 1

    def test_a_recorder_made_after_another_on_the_same_provider_is_the_one_that_is_asked(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        for count in (1, 2):
            recorder = Recorder(provider, Limits())
            recorder.idle_connections = lambda count=count: {"http://p:80": count}
            assert one(collect(), _IDLE).value == count
            recorder.retire()
            assert not collect().select(_IDLE)

    def test_two_recorders_on_one_provider_observe_the_pools_of_both(
        self, provider: MeterProvider, collect: Collect
    ) -> None:
        recorders = [Recorder(provider, Limits()) for _ in range(2)]
        for number, recorder in enumerate(recorders):
            recorder.idle_connections = lambda number=number: {f"http://p{number}:80": 1}
        points = collect()
        for recorder in recorders:
            recorder.retire()
        assert points.by("pool", _IDLE) == {"http://p0:80": 1, "http://p1:80": 1}

    @pytest.mark.parametrize("dropped", ["mcp.memory.usage", _IDLE])
    def test_a_view_that_drops_one_of_them_leaves_everything_else(self, dropped: str) -> None:
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader], views=[View(instrument_name=dropped, aggregation=DropAggregation())])
        recorder = Recorder(provider, Limits())
        recorder.idle_connections = lambda: {"http://p:80": 1}
        for _ in range(10):
            recorder.task_started(Role.SERVER)
        points = Points.of(reader)
        recorder.retire()
        provider.shutdown()
        assert points.sum("mcp.task.spawns") == 10
        assert {point.metric for point in points.all} == {"mcp.task.spawns", "mcp.memory.usage", _IDLE} - {dropped}


@_quiet
def test_what_belongs_to_no_connection_is_recorded_to_the_end_and_after_it(
    recorder: Recorder, collect: Collect
) -> None:
    for _ in range(2):
        recorder.connection_error(Role.CLIENT, Transport.SSE, "ConnectError")
        recorder.keepalive(Transport.SSE)
        recorder.task_started(Role.CLIENT)
        recorder.interceptor("Guard").dealt(0.1, None, Action.ERROR, "ValueError")
        recorder.pooled("http://p:80", created=False, waited=0.1)
        recorder.retire()
    points = collect()
    moved = (_ERRORS, "mcp.session.heartbeat_checks", "mcp.task.spawns", _ACTIONS, _FAILURES, _OWN_TIME, _REUSED, _WAIT)
    assert {metric: points.sum(metric) for metric in moved} == dict.fromkeys(moved, 2)


@_quiet
class TestSuccessor:
    """What takes a recorder's place in a forked child."""

    def test_what_its_predecessor_holds_is_not_handed_over_again(self, recorder: Recorder, collect: Collect) -> None:
        connection = connect(recorder)
        for _ in range(3):
            recorder.task_started(Role.SERVER)
        # The first one has gone through; two are held back.
        successor = recorder.successor()
        recorder.task_started(Role.SERVER)
        connection.close(End.CLOSED)
        collected = collect()
        assert one(collected, "mcp.task.spawns").value == 1
        assert one(collected, "mcp.connections.active").value == 1
        successor.task_started(Role.SERVER)
        assert one(collect(), "mcp.task.spawns").value == 2
        successor.retire()

    def test_it_knows_the_pools(self, recorder: Recorder, collect: Collect) -> None:
        recorder.idle_connections = lambda: {"http://localhost:80": 2}
        successor = recorder.successor()
        assert one(collect(), _IDLE).value == 2
        successor.retire()


@_quiet
class TestServing:
    def test_the_connections_of_a_server_that_is_ready_begin_at_0(self, recorder: Recorder, collect: Collect) -> None:
        for _ in range(2):
            recorder.serving(Transport.STREAMABLE_HTTP, Mode.STATELESS)
        for name in ("mcp.connections.total", "mcp.connections.active"):
            point = one(collect(), name)
            assert point.value == 0
            assert point.attributes == {ROLE: "server", TRANSPORT: "streamable_http", MODE: "stateless"}
