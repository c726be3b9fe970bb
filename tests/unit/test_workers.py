"""How the processes of one server find each other: real directories, locks and processes."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from opentelemetry_instrumentation_mcp.distro import workers
from opentelemetry_instrumentation_mcp.distro.origin import Origin, origin
from opentelemetry_instrumentation_mcp.distro.workers import Membership, join

ADDRESS = "localhost:9464"
# Joins, says what it got, and stays until its input is closed. It leaves when there is some, and else just dies.
MEMBER = """
import sys
from opentelemetry_instrumentation_mcp.distro.origin import Origin
from opentelemetry_instrumentation_mcp.distro.workers import join
member = join(Origin(sys.argv[1], int(sys.argv[4]), sys.argv[2] == "worker"), sys.argv[3])
print(member.name, member.listens(), flush=True)
if sys.stdin.readline():
    print(member.listens(wait=True), flush=True)
    if sys.stdin.readline():
        member.leave()
"""
Start = Callable[..., "Process"]
Join = Callable[..., Membership]


class Process:
    """A member in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.output = process.stdout
        self.name, listens = self.line().split()
        self.listens = listens == "True"

    def line(self) -> str:
        return self.output.readline().strip()

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of this user's servers, which nobody has made yet."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "opentelemetry-distro-mcp"


@pytest.fixture
def start(runtime: Path) -> Iterator[Start]:
    with ExitStack() as processes:

        def start_one(server: str = "server", role: str = "worker", address: str = ADDRESS, pid: int = 0) -> Process:
            command = [sys.executable, "-c", MEMBER, server, role, address, str(pid)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            processes.enter_context(process)
            processes.callback(process.kill)
            return Process(process)

        yield start_one


@pytest.fixture
def join_here(runtime: Path) -> Iterator[Join]:
    """Joins in this process, which is to have one membership of a server: it does not exclude itself."""
    with ExitStack() as memberships:

        def join_one(server: str = "server") -> Membership:
            membership = join(Origin(server, 1, True), ADDRESS)
            memberships.callback(membership.abandon)
            return membership

        yield join_one


def test_workers_have_numbers_and_one_of_them_listens(start: Start) -> None:
    members = [start() for _ in range(3)]

    assert [member.name for member in members] == ["0", "1", "2"]
    assert [member.listens for member in members] == [True, False, False]


def test_numbers_of_the_dead_are_given_again(start: Start) -> None:
    members = [start() for _ in range(3)]
    members[1].kill()

    assert [start().name, start().name] == ["1", "3"]


def test_a_survivor_listens_when_the_one_before_dies_or_leaves(start: Start) -> None:
    members = [start() for _ in range(3)]
    for member in members:
        member.tell()
    assert members[0].line() == "True"
    members[0].kill()
    # Either of the two; the other one is still waiting.
    outputs = {member.output.fileno(): member for member in members[1:]}
    [output], _, _ = select.select(list(outputs), [], [], 10)
    successor = outputs.pop(output)
    assert successor.line() == "True"
    successor.tell()
    [last] = outputs.values()
    assert last.line() == "True"


def test_servers_and_settings_are_kept_apart(start: Start) -> None:
    members = [start(), start(server="another"), start(address="localhost:1")]

    assert [(member.name, member.listens) for member in members] == [("0", True)] * 3


def test_the_process_the_workers_come_from_has_no_number(start: Start) -> None:
    assert start(role="root").name == "root"
    assert start().name == "0"


def test_members_see_each_others_sockets_and_pages(start: Start, join_here: Join, runtime: Path) -> None:
    start()
    member = join_here()
    assert member.name == "1"
    directory = Path(member.socket).resolve().parent
    assert directory.parent == runtime
    Path(member.socket).touch()
    (directory / "0.sock").touch()

    assert {name: Path(path).resolve() for name, path in member.siblings().items()} == {"0": directory / "0.sock"}
    member.keep(b"first")
    member.keep(b"second")
    assert member.keepers() == {"1"}
    assert member.kept("1") == b"second"
    with pytest.raises(FileNotFoundError):
        member.kept("0")
    member.leave()
    assert not (directory / "1.sock").exists()
    assert start().name == "1"


def test_everything_is_private_to_this_user(join_here: Join, runtime: Path) -> None:
    join_here().keep(b"page")

    modes = {path: path.lstat().st_mode & 0o777 for path in [runtime, *runtime.rglob("*")]}
    assert set(modes.values()) == {0o700, 0o600}


def directories(runtime: Path) -> set[Path]:
    return {path for path in runtime.iterdir() if path.is_dir()}


def test_the_directories_of_dead_servers_are_swept(start: Start, runtime: Path) -> None:
    dead, living = start(server="dead"), start(server="living")
    assert len(directories(runtime)) == 2
    dead.kill()

    start(server="new")
    assert len(directories(runtime)) == 2
    assert living.process.poll() is None


def test_but_not_while_their_supervisor_lives(start: Start, runtime: Path) -> None:
    supervisor = origin()
    start(server=supervisor.server, pid=supervisor.pid).kill()
    [kept] = directories(runtime)

    start(server="new")
    assert kept in directories(runtime)


def test_a_server_without_workers_leaves_nothing_behind(start: Start, runtime: Path) -> None:
    lone, parent, worker = start("lone", "root"), start("parent", "root"), start("parent")
    for leaving in (lone, parent):
        leaving.tell()
        assert leaving.line() == "True"
        leaving.tell()
        assert leaving.process.wait(10) == 0

    assert len(directories(runtime)) == 1
    assert worker.process.poll() is None


def open_to_others(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)


def linked(path: Path) -> None:
    target = path.with_name(f"target of {path.name}")
    target.mkdir(mode=0o700)
    path.symlink_to(target)


def file(path: Path) -> None:
    path.touch(0o600)


def somebody_elses(path: Path) -> None:
    path.mkdir(mode=0o700)
    try:
        os.chown(path, 12345, -1)
    except PermissionError:
        pytest.skip("only root can give a directory away")


@pytest.mark.parametrize("make", [open_to_others, linked, file, somebody_elses])
def test_a_directory_that_cannot_be_trusted_is_not_used(
    runtime: Path, join_here: Join, make: Callable[[Path], None]
) -> None:
    make(runtime)
    elsewhere = runtime.parent / "tmp" / f"opentelemetry-distro-mcp-{os.geteuid()}"

    join_here("one")
    assert elsewhere.is_dir()
    # With that one likewise, there is none.
    shutil.rmtree(elsewhere)
    make(elsewhere)
    with pytest.raises(OSError):
        join_here("two")


def test_links_in_the_directory_are_not_followed(runtime: Path, join_here: Join, tmp_path: Path) -> None:
    member = join_here()
    directory = next(path for path in runtime.iterdir() if path.is_dir())
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (directory / "9.page").symlink_to(secret)
    (directory / f"{member.name}.unfinished").symlink_to(secret)

    with pytest.raises(OSError):
        member.kept("9")
    with pytest.raises(OSError):
        member.keep(b"page")
    assert secret.read_bytes() == b"secret"


def test_there_are_only_so_many_workers(join_here: Join, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MOST_WORKERS", 1)
    start()

    with pytest.raises(OSError, match="1 workers have all the places"):
        join_here()
