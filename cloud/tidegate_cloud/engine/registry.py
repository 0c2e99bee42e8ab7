"""What is in force, from the broadcast topics: schemas, priors, and what operators go by: fences, rules and others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tidegate_protocols.codec.priors import Priors
from tidegate_protocols.errors import BadInput
from tidegate_protocols.registry import DEVICE, FEEDBACK, FENCE, RULE
from tidegate_protocols.schema import Schema
from tidegate_protocols.topics import DEVICES, FENCES, PRIORS, RULES, SCHEMAS
from tidegate_protocols.topics import FEEDBACK as FEEDBACK_TOPIC

from tidegate_cloud.operators.control import Control

from .logic import Record

_log = logging.getLogger(__name__)

TOPICS = (SCHEMAS.name, PRIORS.name, FENCES.name, RULES.name, DEVICES.name, FEEDBACK_TOPIC.name)


class Registry:
    """Schemas by fingerprint, priors by name, the operators' control. Records that cannot be read change nothing."""

    def __init__(self) -> None:
        self.schemas: dict[bytes, Schema] = {}
        self.priors: dict[bytes, Priors] = {}
        self.control = Control()
        self._appliers: dict[str, Callable[[str, bytes | None], None]] = {
            SCHEMAS.name: self._schema,
            PRIORS.name: self._priors,
            FENCES.name: self._fence,
            RULES.name: self._rule,
            DEVICES.name: self._device,
            FEEDBACK_TOPIC.name: self._feedback,
        }

    def apply(self, records: Sequence[Record]) -> list[Record]:
        """Apply records in order. Returns those that could not be read; each is logged with its place."""
        refused = []
        by_key: dict[tuple[str, bytes | None], list[Record]] = {}
        for record in records:
            by_key.setdefault((record.topic, record.key), []).append(record)
        for versions in by_key.values():
            # The newest that can be read counts, as it would have had they come one by one.
            for record in reversed(versions):
                try:
                    self._appliers[record.topic]((record.key or b"").decode(), record.value)
                    break
                except (BadInput, UnicodeDecodeError) as error:
                    refused.append(record)
                    _log.warning("%s@%d is left out: %s", record.topic, record.offset, error)
        return refused

    def _schema(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.schemas = {mark: schema for mark, schema in self.schemas.items() if mark.hex() != key}
            return
        schema = Schema.from_json(value)
        if schema.fingerprint.hex() != key:
            raise BadInput(f"the key is {key!r}; the schema's fingerprint is {schema.fingerprint.hex()}")
        self.schemas[schema.fingerprint] = schema

    def _priors(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.priors = {name: priors for name, priors in self.priors.items() if name.hex() != key}
            return
        priors = Priors.from_json(value)
        if priors.name.hex() != key:
            raise BadInput(f"the key is {key[:80]!r}; the priors' name is {priors.name.hex()}")
        self.priors[priors.name] = priors

    def _fence(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.control.remove_fence(key)
        else:
            fence = FENCE.decode(value)
            _check_key(key, fence.id)
            self.control.put_fence(fence)

    def _rule(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.control.remove_rule(key)
        else:
            rule = RULE.decode(value)
            _check_key(key, rule.id)
            self.control.put_rule(rule)

    def _device(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.control.remove_device(key)
        else:
            device = DEVICE.decode(value)
            _check_key(key, device.id)
            self.control.put_device(device)

    def _feedback(self, key: str, value: bytes | None) -> None:
        if value is None:
            self.control.remove_feedback(key)
        else:
            feedback = FEEDBACK.decode(value)
            _check_key(key, feedback.id)
            self.control.put_feedback(feedback)


def _check_key(key: str, name: str) -> None:
    """A record under another key than its id could never be replaced or removed."""
    if key != name:
        raise BadInput(f"the key is {key[:80]!r}; the record's id is {name[:80]!r}")
