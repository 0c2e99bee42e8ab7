"""The configuration: what is accepted, and in which words the rest is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tidegate_edge import config
from tidegate_edge.toml_lines import key_lines, line_of

GOOD = """\
[agent]
name = "depot-1"
data_dir = "/var/lib/tidegate"

[kafka]
bootstrap = "127.0.0.1:9092"

[[source]]
type = "serial"
path = "/dev/ttyUSB*"
protocol = "nmea"
baud = 4800
device = "bus-{name}"

[[source]]
type = "mqtt"
host = "127.0.0.1"

[[source.subscribe]]
filter = "fleet/+/senml"
payload = "senml"
device = "{1}"

[[source.subscribe]]
filter = "spBv1.0/#"
payload = "sparkplug"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(config.BadConfig) as caught:
        config.parse(text, "agent.toml")
    return caught.value.problems


def test_a_sound_file_is_read_with_its_defaults() -> None:
    found = config.parse(GOOD)
    assert found.agent.name == "depot-1"
    assert found.batch.max_scans == 256
    assert found.time.max_past_s >= 86_400, "a day's replay is plausible"
    serial, mqtt = found.source
    assert isinstance(serial, config.SerialSource)
    assert serial.baud == 4800
    assert isinstance(mqtt, config.MqttSource)
    assert [each.payload for each in mqtt.subscribe] == ["senml", "sparkplug"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('bootstrap = "127', 'bootstrp = "127', [
            "agent.toml, line 5: kafka.bootstrap: is missing",
            "agent.toml, line 6: kafka.bootstrp: is not a key (did you mean 'bootstrap'?)",
        ]),
        ('protocol = "nmea"', 'protocol = "nmae"', [
            "agent.toml, line 11: source[0].protocol: 'nmae' is not known (nmea, packets, json, senml)",
        ]),
        ("baud = 4800", 'baud = "4800"', [
            "agent.toml, line 12: source[0].baud: expected `int`, got `str`, is '4800'",
        ]),
        ("baud = 4800", "baud = 1", [
            "agent.toml, line 12: source[0].baud: expected `int` >= 50, is 1",
        ]),
        ('type = "mqtt"', 'type = "mqt"', [
            "agent.toml, line 16: source[1].type: 'mqt' is not known (serial or mqtt or modbus)",
        ]),
        ('type = "mqtt"\n', "", [
            "agent.toml, line 15: source[1].type: is missing (serial or mqtt or modbus)",
        ]),
        ('device = "{1}"', 'devise = "{1}"\nqos = 1', [
            "agent.toml, line 22: source[1].subscribe[0].devise: is not a key (did you mean 'device'?)",
            "agent.toml, line 23: source[1].subscribe[0].qos: is not a key"
            " (known here: device, filter, json, payload)",
        ]),
        ("fleet/+/senml", "fleet/#/senml", [
            "agent.toml, line 20: source[1].subscribe[0].filter: 'fleet/#/senml' is not a topic filter"
            " (# stands alone, as the last level)",
        ]),
        ('device = "bus-{name}"\n', "", [
            "agent.toml, line 8: source[0].device: is missing (NMEA does not say whose position it is)",
        ]),
        ('device = "bus-{name}"', 'device = "bus {name}"', [
            "agent.toml, line 13: source[0].device: 'bus {name}' cannot become a device id"
            " (letters, digits, . _ : - and {name})",
        ]),
        ('device = "{1}"', 'device = "{2}"', [
            "agent.toml, line 22: source[1].subscribe[0].device: '{2}' cannot become a device id"
            " (letters, digits, . _ : - and {1})",
        ]),
        ("[kafka]", "[[window]]\nmode = 'deadband'\n[[window]]\nmode = 'raw'\nstats = ['min', 'median']\n[kafka]", [
            "agent.toml, line 9: window[1].stats[1]: 'median' is not known (min, max, mean, last, count, first, std)",
        ]),
        ("[kafka]", "[[window]]\nmode = 'deadband'\n[[window]]\nmode = 'aggregate'\n[kafka]", [
            "agent.toml, line 5: window[0].band: is missing (smaller changes pass unseen; 0: repetitions alone)",
            "agent.toml, line 7: window[1].every_s: is missing (the length of an aggregate's windows)",
        ]),
        ("[kafka]", "[agent]", ["agent.toml: is not TOML: "]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_key_and_line(old: str, new: str, expected: list[str]) -> None:
    assert old in GOOD
    found = problems(GOOD.replace(old, new))
    if expected[0].endswith(": "):
        assert found[0].startswith(expected[0])
    else:
        assert found == expected


def test_sources_that_are_called_the_same_are_refused() -> None:
    twice = GOOD + '\n[[source]]\ntype = "serial"\npath = "/dev/ttyUSB*"\nprotocol = "packets"\n'
    assert problems(twice) == [
        "agent.toml, line 28: source[2]: source[0] is called '/dev/ttyUSB*' too (give one a `name`)"
    ]


def test_a_json_mapping_is_checked_with_the_file() -> None:
    text = GOOD.replace('payload = "sparkplug"', 'payload = "json"') + (
        '[source.subscribe.json]\ndevice = "/id"\n[[source.subscribe.json.channel]]\nname = "t"\nat = "temp"\n'
    )
    assert problems(text) == [
        "agent.toml, line 27: source[1].subscribe[1].json: mapping: 'temp' is not a JSON pointer (it starts with /)"
    ]
    assert config.parse(text.replace('"temp"', '"/temp"')).source[1].subscribe[1].json is not None


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(config.BadConfig, match=r"nothing\.toml: cannot be read: No such file or directory"):
        config.load(tmp_path / "nothing.toml")


def test_lines_are_found_past_everything_that_toml_allows() -> None:
    text = '''\
# [not.a.table]
a = """
[not.a.table]
b = 1
"""
list = [
  "x]", # ]
  { k = 1, m = [1,
     2] },
]
dotted."key one".x = 1
[table]
inline = { one = 1, two = "}" }
'quoted' = 2
[[many]]
v = 1
[many.sub]
w = 1
[[many.deep]]
[[many]]
[[many.deep]]
[[many.deep]]
z = 1
'''
    lines = key_lines(text)
    assert ("b",) not in lines
    assert lines["a",] == 2
    assert lines["list",] == 6
    assert lines["dotted", "key one", "x"] == 11
    assert lines["table", "inline", "two"] == 13
    assert lines["table", "quoted"] == 14
    assert lines["many", 0, "sub", "w"] == 18
    assert lines["many", 1, "deep", 1, "z"] == 23
    assert line_of(lines, ("many", 0, "sub", "gone", "deeper")) == 17
    assert line_of(lines, ("nowhere",)) is None


@given(st.text())
def test_no_text_makes_the_search_for_lines_fail(text: str) -> None:
    key_lines(text)
