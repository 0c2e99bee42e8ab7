"""The runner on a real Kafka, killed, fenced and moved: what is committed is what one clean run commits."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from confluent_kafka import ConsumerGroupState, TopicPartition
from tidegate_cloud.engine.telemetry import TelemetryLogic
from tidegate_cloud.kafka import Part
from tidegate_protocols.topics import DEVICE_PARTITIONS, EVENTS, FRAMES, RETRY

from tests.engine.frames import SPEED, TEMPERATURE
from tests.engine.processes import Fleet, fleet, read
from tests.support.kafka import KafkaNode
from tests.support.wait import until

GROUP = "tidegate-processor"


def shares(made: Fleet) -> list[int]:
    """How many partitions each member of the group has, fewest first; empty while they are being moved."""
    group = made.admin.describe_consumer_groups([GROUP])[GROUP].result(30)
    if group.state != ConsumerGroupState.STABLE:
        return []
    return sorted(len(member.assignment.topic_partitions) for member in group.members)


def test_killed_five_times_at_random_moments(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        alive = [made.start("1"), made.start("2")]
        for _ in range(5):
            before = made.written()
            made.drive(6)
            grown = before + rng.randrange(1, 400)
            # A partition of a killed member comes back after the group has missed it; the other one goes on.
            until(lambda grown=grown: made.written() >= grown, what="some of the events")  # type: ignore[misc]
            victim = rng.randrange(2)
            alive[victim].kill()
            alive[victim] = made.start(str(victim + 1))
        made.assert_as_undisturbed()
        assert [processor.stop() for processor in alive] == [0, 0]


def test_a_zombie_is_fenced_and_leaves_no_trace(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        zombie = made.start("1")
        made.drive(6)
        until(lambda: made.written() > 50, what="the first events")
        zombie.signal(signal.SIGSTOP)
        heir = made.start("1")
        made.drive(2)
        made.assert_as_undisturbed()
        zombie.signal(signal.SIGCONT)
        made.drive(2)
        # What the zombie is given again it cannot commit; it says so and goes, and the heir gets it back.
        until(lambda: zombie.process.poll() is not None or len(shares(made)) == 2, what="the zombie to come back or go")
        made.drive(2)
        assert zombie.wait() == 1
        assert "another instance has taken over the transactional id" in zombie.output()
        made.assert_as_undisturbed()
        assert heir.stop() == 0


def test_partitions_move_between_instances(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        first = made.start("1")
        made.drive(2)
        until(lambda: made.written() > 50, what="the first events")
        second = made.start("2")
        made.drive(2)
        # Frames and waiting frames of 24 partitions, shared evenly.
        until(lambda: shares(made) == [24, 24], what="both to have half of the partitions")
        made.drive(4)
        more = [made.start("3"), made.start("4")]
        until(lambda: shares(made) == [12] * 4, what="four to have a quarter each")
        made.drive(4)
        made.assert_as_undisturbed()
        assert [processor.stop() for processor in (first, *more)] == [0] * 3
        made.drive(2)
        made.assert_as_undisturbed()
        # A third that takes the second one's name by mistake: one of the two goes, and says why.
        twins = [second, made.start("2")]
        until(lambda: len(shares(made)) == 2, what="the third to join")
        made.drive(2)
        (loser,) = until(lambda: [twin for twin in twins if twin.process.poll() is not None], 60, "one of them to go")
        assert loser.wait() == 1
        assert "give each instance its own --instance" in loser.output()
        made.assert_as_undisturbed()
        (winner,) = (twin for twin in twins if twin is not loser)
        assert winner.stop() == 0


def test_kafka_is_restarted(private_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(private_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        processor = made.start("1")
        made.drive(6)
        until(lambda: made.written() > 50, what="the first events")
        private_kafka.restart()
        made.drive(4)
        made.assert_as_undisturbed()
        assert processor.stop() == 0


def test_frames_wait_on_kafka_until_their_schema_is_announced(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED)
        processor = made.start("1")
        made.drive(3)
        until(lambda: made.written(RETRY.name) > 100, what="frames that wait")
        processor.kill()
        processor = made.start("1")
        made.drive(1)
        made.announce(TEMPERATURE)
        want = made.expected()
        until(lambda: len(read(fresh_kafka, EVENTS.name)) >= len(want.of(EVENTS.name)), what="all events")
        # The two streams of a device may overtake each other, so they are compared apart.
        got = sorted((record.value or b"") for record in read(fresh_kafka, EVENTS.name))
        assert got == sorted((out.value or b"") for out in want.of(EVENTS.name))
        assert processor.stop() == 0


def test_a_log_that_has_expired_stops_the_processor_loudly(fresh_kafka: KafkaNode, tmp_path: Path) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        processor = made.start("1")
        made.drive(1)
        made.assert_as_undisturbed()
        assert processor.stop() == 0
        made.drive(1)
        ends = made.offsets.latest([Part(FRAMES.name, partition) for partition in range(DEVICE_PARTITIONS)])
        cut = [TopicPartition(part.topic, part.partition, end) for part, end in ends.items()]
        for future in made.admin.delete_records(cut).values():
            future.result(30)
        processor = made.start("1")
        assert processor.wait() == 1
        assert "has expired under this group at offset" in processor.output()


def test_what_went_well_once_and_fails_in_the_silent_replay_stops_the_instance(
    fresh_kafka: KafkaNode, tmp_path: Path
) -> None:
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        processor = made.start("1", "--longest-s", "3600")
        made.drive(2)
        want = made.expected()
        until(lambda: len(read(fresh_kafka, EVENTS.name)) >= len(want.of(EVENTS.name)), what="all events")
        processor.kill()  # its rows are not written: they have to be replayed
        broken = made.start("1", "--broken")
        assert broken.wait() == 1
        assert "what went well once fails now" in broken.output()
        processor = made.start("1")  # the program that wrote the state goes on as if nothing had been
        made.drive(1)
        made.assert_as_undisturbed()
        assert processor.stop() == 0


def test_an_older_program_refuses_the_state_of_a_newer_one_and_leaves_it_alone(
    fresh_kafka: KafkaNode, tmp_path: Path
) -> None:
    newer = "--state-version", str(TelemetryLogic.state_version + 1)
    with fleet(fresh_kafka, tmp_path) as made:
        made.announce(SPEED, TEMPERATURE)
        processor = made.start("1", *newer)
        made.drive(1)
        made.assert_as_undisturbed()
        assert processor.stop() == 0
        older = made.start("1")
        assert older.wait() == 1
        assert "Run the program that wrote it, or a newer one" in older.output()
        processor = made.start("1", *newer)
        made.drive(1)
        made.assert_as_undisturbed()
        assert processor.stop() == 0
