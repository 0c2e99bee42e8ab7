"""The settings of the one-node Kafka: what `server.properties` and `log4j2.properties` say, and why."""

from __future__ import annotations

from pathlib import Path

JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",  # one small heap: the parallel collectors only cost memory and threads
    "-XX:TieredStopAtLevel=1",  # up in 2 s instead of 4, for a fifth of the peak throughput
    "-Djava.awt.headless=true",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)


def server_properties(data: Path, *, port: int, controller_port: int, advertised_port: int | None = None) -> str:
    """The text of `server.properties` for one node that is broker and controller, on the loopback address only.

    `advertised_port` is where clients are told to connect, `port` unless something stands in between.
    """
    advertised = advertised_port or port
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{advertised},CONTROLLER://127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data),
        # One node holds one replica of everything, Kafka's own topics included.
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "1",
        # Topics come from the catalogue; a misspelt name is an error and not a new topic.
        "auto.create.topics.enable": "false",
        # Quick fail-over: a killed member is missed after 6 s, its transaction is swept within 1 s of its time-out.
        "group.initial.rebalance.delay.ms": "0",
        "group.consumer.session.timeout.ms": "6000",
        "group.consumer.min.session.timeout.ms": "6000",
        "group.consumer.heartbeat.interval.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "1000",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        # After a kill the node is let back in once its former self has been missed, by default 9 s later.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "500",
        # Kafka reserves two index files of this size for every partition.
        "log.index.size.max.bytes": str(2**20),
        "num.network.threads": "2",
        "num.io.threads": "4",
        "message.max.bytes": str(2 * 2**20),
        "replica.fetch.max.bytes": str(2 * 2**20),
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def log4j_properties(logs: Path) -> str:
    """The text of `log4j2.properties`: a bounded `kafka.log`, and warnings on the console."""
    return f"""\
status=error
appender.file.type=RollingFile
appender.file.name=file
appender.file.fileName={logs}/kafka.log
appender.file.filePattern={logs}/kafka.log.%i
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c{{1}})%n
appender.file.policies.type=Policies
appender.file.policies.size.type=SizeBasedTriggeringPolicy
appender.file.policies.size.size=8MB
appender.file.strategy.type=DefaultRolloverStrategy
appender.file.strategy.max=2
rootLogger.level=info
rootLogger.appenderRef.file.ref=file
"""
