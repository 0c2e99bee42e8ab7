"""The peer of bench_engine: quixstreams, exactly once, with the same decoder and the same operators.

Run in a virtual environment of its own (its client library is older than ours), with ours behind it on the path. Each
message is decoded and run through all operators by itself, as a stream processor of records does; the rows of
the operators stay in memory, which spares it what checkpoints cost.

    python quix_engine.py BOOTSTRAP GROUP
"""

from __future__ import annotations

import sys
from typing import Any

from quixstreams import Application  # type: ignore[import-not-found]
from tidegate_cloud.engine.chain import Chain
from tidegate_cloud.operators import Control, block_of, default_operators
from tidegate_protocols.codec import backend
from tidegate_protocols.events import EVENT
from tidegate_protocols.frame import decode_frame
from tidegate_protocols.topics import FRAMES

from benchmarks import fleet8

EVENTS = "peer.events"


def main(bootstrap: str, group: str) -> None:
    backend.load()
    control = Control()
    for fence in fleet8.fences():
        control.put_fence(fence)
    chain = Chain(default_operators(), control)
    schemas = {fleet8.SCHEMA.fingerprint: fleet8.SCHEMA}

    def find(value: bytes, key: Any, timestamp: int, headers: Any) -> list[bytes]:
        block = block_of([decode_frame(value, schemas)])
        findings, _ = chain.run(block, chain.states, set())
        return [EVENT.encode(finding.event(timestamp * 1000, "authoritative")) for finding in findings]

    application = Application(
        broker_address=bootstrap, consumer_group=group, processing_guarantee="exactly-once",
        auto_offset_reset="earliest", commit_interval=0.2, use_changelog_topics=False, auto_create_topics=False,
        topic_create_timeout=30, loglevel="WARNING",
    )  # fmt: skip
    source = application.topic(FRAMES.name, key_deserializer="bytes", value_deserializer="bytes")
    target = application.topic(EVENTS, key_serializer="bytes", value_serializer="bytes")
    frame = application.dataframe(source)
    frame.apply(find, expand=True, metadata=True).to_topic(target)
    print("ready: quixstreams", flush=True)
    application.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
