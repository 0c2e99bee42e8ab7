"""The catalogue of topics: what each holds, its key, its partitions and how long it is kept.

`tidegate topics apply` creates what is missing and corrects what differs. It never deletes a topic and never changes
a partition count: the key of a record decides its partition, and everything about a device must stay in one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DEVICE_PARTITIONS = 24
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_days` is None for a compacted topic, which keeps the newest value of every key."""

    name: str
    holds: str
    key: str
    retention_days: int | None
    partitions: int = DEVICE_PARTITIONS
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def compacted(self) -> bool:
        return self.retention_days is None

    def config(self) -> dict[str, str]:
        """The topic's settings as Kafka spells them."""
        settings = {
            # A device that believes in 1970 must not make retention delete its data.
            "message.timestamp.type": "LogAppendTime",
            "cleanup.policy": "compact" if self.compacted else "delete",
        }
        if self.retention_days is not None:
            settings["retention.ms"] = str(self.retention_days * _DAY_MS)
        return settings | self.extra


FRAMES = Topic("telemetry.frames", "frames", "device id", 7)
RETRY = Topic("telemetry.retry", "frames that wait for a schema or for priors", "device id", 30)
DEAD_LETTERS = Topic("telemetry.dead-letters", "bad input, with the reason", "device id, or none", 30)
EVENTS = Topic("fleet.events", "what operators found", "device id", 30)
ALERTS = Topic("fleet.alerts", "alerts as they stand", "alert id, in its device's partition", None)
ALERT_LOG = Topic("fleet.alert-log", "every transition of every alert", "device id, or a group's key", 90)
ALERT_GROUPS = Topic("fleet.alert-groups", "groups of alerts as they stand", "group id, in its key's partition", None)
COMMANDS = Topic("fleet.commands", "what people asked for", "device id, or a group's key", 30)
# Longer than the alert log, whose lines it answers.
NOTIFICATIONS = Topic(
    "fleet.notifications", "messages to people, and what became of them", "notification id", 100,
    extra={"cleanup.policy": "compact,delete"},
)  # fmt: skip
SCHEMAS = Topic("device.schemas", "schemas", "fingerprint, hex", None, partitions=1)
PRIORS = Topic("device.priors", "what frames of a schema may build on", "name, hex", None, partitions=1)
DESIRED = Topic("device.desired", "configuration that an agent should run", "AGENT/agent", None)
REPORTED = Topic("device.reported", "what devices and agents say of themselves", "device id, or AGENT/agent", None)
TRUST = Topic("device.trust", "who may sign configurations", "root/VERSION", None, partitions=1)
FILES = Topic(
    "device.files", "contents of configurations and files", "SHA-256/NUMBER", None, partitions=1,
    extra={"segment.bytes": str(64 * 2**20)},
)  # fmt: skip
LAYERS = Topic("registry.configs", "layers of configuration", "layer", None, partitions=1)
ROLLOUTS = Topic("fleet.rollouts", "rollouts as they stand", "rollout id", None, partitions=1)
ROLLOUT_LOG = Topic("fleet.rollout-log", "every step of every rollout", "rollout id", 365, partitions=1)
ROLLOUT_COMMANDS = Topic("fleet.rollout-commands", "what people asked of rollouts", "rollout id", 30, partitions=1)
DEVICES = Topic("registry.devices", "devices", "device id", None, partitions=1)
FENCES = Topic("registry.fences", "fences", "fence id", None, partitions=1)
RULES = Topic("registry.rules", "limits", "rule id", None, partitions=1)
POLICIES = Topic("registry.alert-policies", "how events become alerts", "policy id", None, partitions=1)
SILENCES = Topic("registry.silences", "when alerts page nobody", "silence id", None, partitions=1)
FEEDBACK = Topic("registry.feedback", "what people said of alerts", "alert id", None, partitions=1)
# Small segments, so that compaction has something to do.
CHECKPOINTS = Topic(
    "engine.checkpoints", "operators' state rows", "kind and name", None, extra={"segment.bytes": str(16 * 2**20)}
)
ALERT_CHECKPOINTS = Topic(
    "engine.alert-checkpoints", "the alert engine's rows", "kind and name", None,
    extra={"segment.bytes": str(16 * 2**20)},
)  # fmt: skip
ALERT_MEMBERS = Topic("engine.alert-members", "alerts on their way to their groups", "a group's key, or alert id", 7)
GROUP_CHECKPOINTS = Topic(
    "engine.group-checkpoints", "the rows of groups and escalations", "kind and name", None,
    extra={"segment.bytes": str(16 * 2**20)},
)  # fmt: skip
ACCOUNTS = Topic("console.accounts", "who may use the console", "kind and name", None, partitions=1)
AUDIT = Topic("console.audit", "what was asked of consoles, and by whom", "user", 365, partitions=1)
MARKS = Topic("engine.marks", "side inputs and where they took effect", "kind and name", 30)

CATALOGUE: tuple[Topic, ...] = (
    FRAMES, RETRY, DEAD_LETTERS, EVENTS, ALERTS, ALERT_LOG, ALERT_GROUPS, COMMANDS, NOTIFICATIONS,
    SCHEMAS, PRIORS, DESIRED, REPORTED, TRUST, FILES, LAYERS, ROLLOUTS, ROLLOUT_LOG, ROLLOUT_COMMANDS,
    DEVICES, FENCES, RULES, POLICIES, SILENCES, FEEDBACK, CHECKPOINTS,
    ALERT_CHECKPOINTS, ALERT_MEMBERS, GROUP_CHECKPOINTS, MARKS, ACCOUNTS, AUDIT,
)  # fmt: skip
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in CATALOGUE}

# librdkafka's default puts keys elsewhere than Java clients do; Connect and Flink would not be co-partitioned.
PARTITIONER = {"partitioner": "murmur2_random"}
