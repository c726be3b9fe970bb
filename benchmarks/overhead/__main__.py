"""Compares bare and instrumented processes, on the SDK of the Python that runs this.

python -m benchmarks.overhead [--scenario "server stdio"] [--rounds 10] [--peer another-package] [--help]
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import ExitStack
from pathlib import Path

from .. import results
from ..example import SDK_VERSION, V2
from . import peer, traces
from .rounds import Comparison, Plan, Round, measure_round, progress
from .statistics import Estimate
from .subjects import (
    BARE,
    CONTROL,
    DISABLED,
    INSTRUMENTED,
    OTHERS,
    SDK_SPANS,
    SERVERS,
    Launch,
    ProgramError,
    Scenario,
)

SCENARIOS = {each.name: each for each in (*SERVERS, *OTHERS) if V2 or not each.modern}
_UNITS = {"cpu": "CPU per call", "p50": "latency p50", "p99": "latency p99", "rate": "calls per second"}


def main() -> None:
    plan = Plan()
    parser = argparse.ArgumentParser(description="CPU, latency and throughput, bare and instrumented.")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this; may be repeated")
    parser.add_argument("--rounds", type=int, default=plan.rounds, help="how often everything is started anew")
    parser.add_argument("--interval", type=float, default=plan.interval, help="seconds of calls between two scrapes")
    parser.add_argument("--block", type=float, default=plan.block, help="seconds of one block of calls")
    parser.add_argument("--bursts", type=int, default=plan.bursts, help="blocks at saturation per round; 0: none")
    parser.add_argument("--at-once", type=int, default=plan.at_once, help="calls in flight at saturation")
    parser.add_argument("--disabled", action="store_true", help="also with the instrumentation switched off")
    parser.add_argument(
        "--traces",
        action=argparse.BooleanOptionalAction,
        default=not V2,
        help="also with a tenth of the calls traced; by default on 1.x, whose spans are made by this package",
    )
    parser.add_argument(
        "--sdk-spans",
        action=argparse.BooleanOptionalAction,
        default=V2,
        help="also without what is saved on spans that nobody records; by default on 2.x, which makes them",
    )
    parser.add_argument("--peer", help="a requirement: another package's instrumentation, as one more column")
    parser.add_argument("--json", type=Path, help="write the result to this file as well")
    options = parser.parse_args()
    plan = Plan(
        rounds=options.rounds,
        interval=options.interval,
        block=options.block,
        bursts=options.bursts,
        at_once=options.at_once,
    )
    launches = [BARE, INSTRUMENTED, CONTROL]
    if options.sdk_spans and V2:
        launches.append(SDK_SPANS)
    if options.disabled:
        launches.append(DISABLED)
    if options.peer and (launch := peer.prepare(options.peer)):
        launches.append(launch)
    measured: dict[str, list[Round]] = {}
    with ExitStack() as stack:
        if options.traces and (launch := stack.enter_context(traces.launch())):
            launches.insert(2, launch)
        for name in options.scenario or SCENARIOS:
            measured[name] = asyncio.run(_measure(SCENARIOS[name], launches, plan))
            _show(name, launches, measured[name])
    if options.json:
        results.write(options.json, "overhead", measured)


async def _measure(scenario: Scenario, launches: list[Launch], plan: Plan) -> list[Round]:
    rounds: list[Round] = []
    own = {BARE.name, CONTROL.name, INSTRUMENTED.name, DISABLED.name, SDK_SPANS.name, traces.NAME}
    while len(rounds) < plan.rounds:
        progress(f"{scenario.name}: round {len(rounds) + 1} of {plan.rounds}")
        try:
            rounds.append(await measure_round(scenario, launches, plan))
        except ProgramError as error:
            if error.launch.name in own:
                raise
            # Another package's trouble costs its column and nothing else.
            progress(f"no column for {error}\n")
            launches = [launch for launch in launches if launch is not error.launch]
    progress("")
    return rounds


def _show(name: str, launches: list[Launch], rounds: list[Round]) -> None:
    comparison = Comparison(rounds)
    print(f"\nmcp {SDK_VERSION}, {name}: difference to bare in percent, median [95 % interval] of {len(rounds)} rounds")
    for figure, title in _UNITS.items():
        bare = comparison.bare(figure)
        if bare is None:
            continue
        value = f"{bare:.0f}" if figure == "rate" else f"{1e6 * bare:.0f} us"
        print(f"  {title:18}{value:>10}", end="")
        for launch in launches[1:]:
            print(f"   {launch.name}: {_text(comparison.difference(launch.name, figure))}", end="")
        print(flush=True)


def _text(difference: Estimate | None) -> str:
    return "-" if difference is None else str(difference)


if __name__ == "__main__":
    main()
