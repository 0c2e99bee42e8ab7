"""Services as child processes: in order, watched, ended, and found again after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tidegate_cli.supervisor import (
    RunFile,
    RunningService,
    Service,
    ServiceFailed,
    Supervisor,
    end_leftovers,
    is_alive,
    read_run_file,
    start_time,
)

from tests.support.wait import until


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


UP = "import time; print('ready: here, metrics http://127.0.0.1:1234/metrics', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {UP}"
BROKEN = "print('the reason', flush=True); raise SystemExit(3)"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    supervisor.bootstrap = "127.0.0.1:1"
    yield supervisor
    for service in supervisor.services:
        service.down_s = 0
    supervisor.stop()


def test_the_run_file_says_what_runs(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Service("one", python(UP)), Service("two", python(UP)))
    run = read_run_file(tmp_path)
    assert run is not None
    assert [service.name for service in run.services] == ["one", "two"]
    assert {service.metrics for service in run.services} == {"http://127.0.0.1:1234/metrics"}
    assert all(is_alive(service) for service in run.services)
    assert run.supervisor is not None
    assert run.supervisor.pid == os.getpid()
    assert supervisor.stop() == []
    assert not any(is_alive(service) for service in run.services)
    assert read_run_file(tmp_path) is None


def test_the_run_file_says_what_is_not_ready_yet(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.planned = ["one", "two"]
    seen: list[tuple[bool, list[str]]] = []

    def poll() -> None:
        run = read_run_file(tmp_path)
        assert run is not None
        seen.append((run.services[0].ready, run.to_come))

    supervisor.start(Service("one", python(UP)), poll=poll)
    assert seen[0] == (False, ["two"])
    supervisor.start(Service("two", python(UP)))
    run = read_run_file(tmp_path)
    assert run is not None
    assert (run.to_come, [service.ready for service in run.services]) == ([], [True, True])


def test_services_end_in_the_opposite_order(supervisor: Supervisor) -> None:
    supervisor.start(Service("first", python(UP)))
    supervisor.start(Service("second", python(UP)))
    ended: list[str] = []
    supervisor.stop(lambda service: ended.append(service.name))
    assert ended == ["second", "first"]


def test_a_service_that_ends_at_once_is_named_with_what_it_said(supervisor: Supervisor) -> None:
    with pytest.raises(ServiceFailed, match=r"broken ended with status 3\n  the reason"):
        supervisor.start(Service("fine", python(UP)), Service("broken", python(BROKEN)))


def test_a_service_that_dies_later_is_named(supervisor: Supervisor) -> None:
    supervisor.start(Service("victim", python(UP)), Service("other", python(UP)))
    supervisor.check()
    process = supervisor.services[0].process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(ServiceFailed, match="victim was ended by SIGKILL"):
        supervisor.check()


def test_a_service_that_does_not_come_up_is_named(supervisor: Supervisor) -> None:
    with pytest.raises(ServiceFailed, match=r"slow did not come up within 0.2 s\n  thinking"):
        supervisor.start(
            Service("slow", python("import time; print('thinking', flush=True); time.sleep(60)"), up_s=0.2)
        )


def test_a_service_may_have_an_end_of_its_own(supervisor: Supervisor) -> None:
    supervisor.start(Service("replay", python("print('ready: go', flush=True)"), may_end=True))
    until(lambda: supervisor.services[0].state == "ended")
    supervisor.check()


def test_one_that_does_not_end_is_killed_and_named(supervisor: Supervisor) -> None:
    supervisor.start(Service("stubborn", python(STUBBORN), down_s=0.2))
    assert supervisor.stop() == ["stubborn"]


def test_giving_up_leaves_nothing_behind(supervisor: Supervisor) -> None:
    class Enough(Exception):
        pass

    def poll() -> None:
        raise Enough

    with pytest.raises(Enough):
        supervisor.start(Service("slow", python("import time; time.sleep(60)")), poll=poll)
    process = supervisor.services[0].process
    assert process is not None
    supervisor.stop()
    assert process.poll() == -signal.SIGTERM


def test_what_a_killed_supervisor_left_is_found_and_ended(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, time\n"
        "from tidegate_cli.supervisor import Service, Supervisor\n"
        f"s = Supervisor(pathlib.Path({str(tmp_path)!r})); s.bootstrap = 'x'\n"
        f"s.start(Service('left', [sys.executable, '-c', {UP!r}]))\n"
        "print('started', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen(python(program), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.kill()
    process.wait()
    process.stdout.close()
    run = read_run_file(tmp_path)
    assert run is not None
    assert run.supervisor is not None
    assert not is_alive(run.supervisor)
    assert is_alive(run.services[0])
    assert end_leftovers(run) == ["left"]
    assert not is_alive(run.services[0])
    assert end_leftovers(run) == []


def test_a_process_that_took_over_the_id_is_left_alone() -> None:
    process = subprocess.Popen(python("import time; time.sleep(600)"))
    try:
        started = start_time(process.pid)
        assert started is not None
        reused = RunningService("gone", process.pid, started - 1)
        assert end_leftovers(RunFile("", [reused])) == []
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_damaged_run_file_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"bootstrap": 1')
    assert read_run_file(tmp_path) is None
