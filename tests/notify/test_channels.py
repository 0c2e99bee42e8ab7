"""The ways out, against real servers: what arrives, how it is signed, and what a refusal means."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tidegate_cloud.broker.ports import free_port
from tidegate_cloud.notify.channels import SendFailed, key_of, open_channel, signature
from tidegate_cloud.notify.cli import notify
from tidegate_cloud.notify.config import ChannelConfig, load
from tidegate_cloud.notify.message import Message
from tidegate_protocols.errors import BadInput

from tests.support.receivers import smtp_server, webhook_server

NOW_S = 1_700_000_000.0
SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes that are secret").decode()


def a_message(**more: Any) -> Message:
    fields: dict[str, Any] = {
        "id": "n" * 32, "alert": "a" * 32, "device": "van-7", "group": "", "rule": "limit", "severity": "critical",
        "state": "open", "title": "Cargo at 9.1 °C; limit is 8 °C", "level": 1, "count": 0,
        "started_us": int(NOW_S * 1e6), "asked_us": int(NOW_S * 1e6), "receiver": "desk",
    }  # fmt: skip
    return Message(**(fields | more))


def test_a_webhook_gets_what_happened_signed_as_the_standard_says():
    with webhook_server() as server:
        channel = open_channel(ChannelConfig(name="hook", webhook=server.url, secret=[SECRET, "an older one"]))
        channel.send(a_message(), NOW_S)
    ((headers, body),) = server.posted
    assert (headers["webhook-id"], headers["idempotency-key"]) == ("n" * 32, "n" * 32)
    assert (headers["webhook-timestamp"], headers["content-type"]) == ("1700000000", "application/json")
    signed = b"n" * 32 + b".1700000000." + body
    expected = [
        "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        for key in (b"thirty-two bytes that are secret", b"an older one")
    ]
    assert headers["webhook-signature"].split(" ") == expected
    fields = json.loads(body)
    assert (fields["device"], fields["severity"], fields["title"]) == ("van-7", "critical", a_message().title)
    assert fields["type"] == "alert"


def test_the_signature_is_that_of_the_standards_own_example():
    """The example of the specification and of its libraries: this secret, id, time and body give this signature."""
    key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [key])
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("status", "headers", "for_good", "after_s"),
    [
        (500, {}, False, 0.0), (503, {"retry-after": "30"}, False, 30.0),
        (429, {"retry-after": "9999999"}, False, 3600.0),
        (408, {}, False, 0.0), (400, {}, True, 0.0), (404, {}, True, 0.0), (410, {}, True, 0.0),
        (302, {"location": "http://127.0.0.1:1/"}, True, 0.0), (503, {"retry-after": "soon"}, False, 0.0),
    ],
)  # fmt: skip
def test_what_a_webhook_answers(status: int, headers: dict[str, str], for_good: bool, after_s: float):
    with webhook_server() as server:
        server.answers.append((status, headers))
        channel = open_channel(ChannelConfig(name="hook", webhook=server.url, secret="s"))
        with pytest.raises(SendFailed, match=f"answered {status}") as caught:
            channel.send(a_message(), NOW_S)
    assert (caught.value.for_good, caught.value.after_s) == (for_good, after_s)
    assert len(server.posted) == 1


def test_a_webhook_that_is_not_there_is_tried_again_and_its_address_is_not_told():
    port = free_port()
    channel = open_channel(ChannelConfig(name="hook", webhook=f"http://127.0.0.1:{port}/s3cret", secret="s"))
    with pytest.raises(SendFailed) as caught:
        channel.send(a_message(), NOW_S)
    assert not caught.value.for_good
    assert "s3cret" not in str(caught.value)


def mail_to(port: int) -> str:
    return f"mailto://127.0.0.1:{port}?from=alerts@example.com&to=desk@example.com&mode=insecure"


def test_mail_reaches_a_real_mail_server():
    with smtp_server() as server:
        channel = open_channel(ChannelConfig(name="mail", apprise=mail_to(server.port)))
        channel.send(a_message(link="https://tidegate.example/alerts/x", level=2), NOW_S)
        channel.send(a_message(state="resolved"), NOW_S)
    (to, mail), (_, over) = server.mails
    assert to == ["desk@example.com"]
    assert mail["subject"] == "Critical: Cargo at 9.1 °C; limit is 8 °C (van-7)"
    text = mail.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
    assert "Since: 2023-11-14 22:13:20 UTC" in text
    assert "you are asked as number 2" in text
    assert "https://tidegate.example/alerts/x" in text
    assert over["subject"] == "Over: Cargo at 9.1 °C; limit is 8 °C (van-7)"


def test_markup_from_a_device_stays_text():
    with smtp_server() as server:
        channel = open_channel(ChannelConfig(name="mail", apprise=mail_to(server.port)))
        channel.send(a_message(title="<b>Entered</b> <script>x</script>"), NOW_S)
    ((_, mail),) = server.mails
    html = mail.get_body(("html",))  # type: ignore[attr-defined]
    assert html is None or "<script>" not in html.get_content()


def test_a_mail_server_that_refuses_or_is_away_is_a_failure_to_try_again():
    with smtp_server() as server:
        server.refusing = True
        channel = open_channel(ChannelConfig(name="mail", apprise=mail_to(server.port)))
        with pytest.raises(SendFailed, match="Apprise") as caught:
            channel.send(a_message(), NOW_S)
        assert not caught.value.for_good
    with pytest.raises(SendFailed, match="Apprise"):
        channel.send(a_message(), NOW_S)


def test_an_address_that_nobody_knows_is_refused_without_being_told():
    with pytest.raises(BadInput, match="cannot use this nonsense:// address") as caught:
        open_channel(ChannelConfig(name="x", apprise="nonsense://user:s3cret@host"))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(BadInput, match="not base64"):
        open_channel(ChannelConfig(name="x", webhook="http://h/", secret="whsec_!"))


CONFIG = """
public_url = "https://tidegate.example"
[receivers.desk]
quiet = { from = "22:00", to = "06:00", time_zone = "Europe/Lisbon" }
[[receivers.desk.channels]]
name = "mail"
apprise = "env:MAIL"
[[receivers.desk.channels]]
name = "hook"
webhook = "HOOK"
secret = "file:secret.txt"
"""


def test_the_test_command_says_which_channel_took_it(tmp_path: Path):
    (tmp_path / "secret.txt").write_text("s3cret\n")
    with smtp_server() as mail, webhook_server() as hook:
        path = tmp_path / "notify.toml"
        path.write_text(CONFIG.replace("HOOK", hook.url))
        runner = CliRunner(env={"MAIL": mail_to(mail.port)})
        ran = runner.invoke(notify, ["test", "--config", str(path), "desk"])
        assert (ran.exit_code, ran.output) == (0, "desk/mail: sent\ndesk/hook: sent\n")
        assert mail.mails[0][1]["subject"] == "Test: This is how alerts will reach you"
        assert json.loads(hook.posted[0].body)["type"] == "test"
        hook.answers.append((500, {}))
        ran = runner.invoke(notify, ["test", "--config", str(path), "desk", "--channel", "hook"])
        assert (ran.exit_code, ran.output) == (1, "desk/hook: failed: answered 500\n")
        ran = runner.invoke(notify, ["test", "--config", str(path), "boss"])
        assert "no receiver 'boss'; there are desk" in ran.output
        ran = runner.invoke(notify, ["check", "--config", str(path), "desk"])
        assert ran.output == "desk: mail, hook\n"
        ran = runner.invoke(notify, ["check", "--config", str(path), "desk", "oncall"])
        assert ran.exit_code == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("receivers = 1", "Expected `object`"), ("[receivers]", "no receivers"), ("][", "not TOML"),
        ("[receivers.desk]\nchannels = []", "receivers.desk: no channels"),
        ("[receivers.'a b']\nchannels = []", "not a name"),
        ("[receivers.desk]\nchannels = [{name='m'}]", "channel 'm': either apprise or webhook"),
        ("[receivers.desk]\nchannels = [{name='m', apprise='a', webhook='b'}]", "either apprise or webhook"),
        ("[receivers.desk]\nchannels = [{name='m', webhook='http://h/'}]", "needs a secret"),
        ("[receivers.desk]\nchannels = [{name='m', webhook='ftp://h/', secret='s'}]", "not an http"),
        ("[receivers.desk]\nchannels = [{name='m', apprise='a', colour='red'}]", "unknown field `colour`"),
        ("[receivers.desk]\nchannels = [{name='m', apprise='a'}, {name='m', apprise='b'}]", "there twice"),
        ("[receivers.desk]\nchannels = [{name='m', apprise='env:NOT_SET'}]", "variable NOT_SET is not set"),
        ("[receivers.desk]\nchannels = [{name='m', apprise='file:none'}]", "cannot be read"),
        ("concurrency = 0\n[receivers.desk]\nchannels = [{name='m', apprise='a'}]", "concurrency: 0 is not within"),
        ("[receivers.desk]\nquiet={from='25:00', to='06:00'}\nchannels = [{name='m', apprise='a'}]", "from_time is"),
        ("[receivers.desk]\nquiet={from='22:00', to='06:00', time_zone='X'}\nchannels = [{name='m', apprise='a'}]",
         "not a time zone"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_refused_with_the_place(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "notify.toml"
    path.write_text(text)
    with pytest.raises(BadInput, match=complaint) as caught:
        load(path, {})
    assert "notify.toml" in str(caught.value)
