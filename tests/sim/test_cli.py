"""`tidegate sim` as a person types it: what it prints, what it writes, and how it says what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from tidegate_cli.main import tidegate

from tests.support.mqtt import MqttBroker
from tests.support.wait import until


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(tidegate, ["sim", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_a_scenario_is_written(tmp_path: Path) -> None:
    code, out, _ = run("scenario", "--out", str(tmp_path), "--devices", "8", "--json")
    assert code == 0
    assert {Path(path).name for path in json.loads(out).values()} == {"fences.geojson", "rules.json", "devices.json"}
    assert len(json.loads((tmp_path / "devices.json").read_text())) == 8


def test_a_fleet_runs_for_a_while_and_says_what_it_sent(tmp_path: Path, mqtt_broker: MqttBroker) -> None:
    code, out, _ = run(
        "fleet", "--mqtt", mqtt_broker.address, "--devices", "2", "--rate", "5", "--seconds", "1", "--json",
        "--truth", str(tmp_path / "truth"),
    )  # fmt: skip
    assert code == 0
    ready, result = out.splitlines()
    assert ready.startswith("ready: 2 devices")
    assert json.loads(result)["protocols"]["senml"]["acknowledged"] >= 4
    assert (tmp_path / "truth").read_text().startswith('{"type": "start"')


def test_a_replay_says_what_was_acknowledged(tmp_path: Path, mqtt_broker: MqttBroker) -> None:
    data = tmp_path / "data.csv"
    data.write_text(
        "vehicle_id,timestamp,speed,latitude,longitude\n"
        "7,2016-03-22T19:26:01-05:00,5,30.1,-97.1\n7,2016-03-22T19:26:02-05:00,,30.2,-97.1\n"
    )
    code, out, _ = run("replay", "--data", str(data), "--mqtt", mqtt_broker.address, "--speed", "inf")
    assert code == 0
    assert "sent 2 of 2 positions of 1 vehicles" in out
    assert "2 over MQTT (2 acknowledged)" in out


def test_load_prints_a_summary_as_json(mqtt_broker: MqttBroker) -> None:
    code, out, _ = run(
        "load", "--to", "mqtt", "--mqtt", mqtt_broker.address, "--rate", "100", "--seconds", "1", "--json"
    )
    assert code == 0
    assert json.loads(out)["accepted"] == 100


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_fleet_in_order(tmp_path: Path, mqtt_broker: MqttBroker, how: signal.Signals) -> None:
    command = [
        sys.executable, "-m", "tidegate_cli.main", "sim", "fleet", "--mqtt", mqtt_broker.address,
        "--serial-dir", str(tmp_path / "lines"), "--devices", "4", "--rate", "5", "--json", "--drain-s", "0.2",
        "--truth", str(tmp_path / "truth"),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready: 4 devices")
        until(lambda: (tmp_path / "truth").stat().st_size > 0)
        process.send_signal(how)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    assert set(json.loads(out)["protocols"]) == {"nmea", "packets", "senml", "sparkplug"}
    assert list((tmp_path / "lines").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fleet"], "give --serial-dir, --mqtt or both"),
        (["fleet", "--mqtt", "127.0.0.1:9"], "no MQTT broker at 127.0.0.1:9"),
        (["fleet", "--mqtt", "nowhere:x"], "is not HOST:PORT"),
        (["fleet", "--mqtt", "127.0.0.1:9", "--mix", "senml"], "is not NAME=SHARE"),
        (["fleet", "--mqtt", "127.0.0.1:9", "--mix", "nmea=1"], "need --serial-dir"),
        (["fleet", "--mqtt", "127.0.0.1:9", "--rate", "0"], "--rate"),
        (["fleet", "--mqtt", "127.0.0.1:9", "--centre", "Austin"], "is not LAT,LON"),
        (["replay", "--data", "/none.csv"], "give --serial-dir, --mqtt or both"),
        (["replay", "--data", "/none.csv", "--mqtt", "127.0.0.1:9"], "/none.csv: cannot be read"),
        (["load", "--to", "mqtt", "--mqtt", "127.0.0.1:9"], "no MQTT broker"),
        (["load", "--to", "mqtt", "--devices", "0"], "0 devices"),
        (["scenario", "--out", "x", "--devices", "0"], "--devices"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], said: str) -> None:
    code, _, err = run(*arguments)
    assert code != 0
    assert said in " ".join(err.split())
    assert "Traceback" not in err
