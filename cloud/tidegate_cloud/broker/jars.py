"""Kafka's jars: fetched once per user from Maven Central, checked against `kafka.lock`, then used from the cache.

Layout: ``$XDG_CACHE_HOME/tidegate/kafka-VERSION/NAME.jar`` (``~/.cache`` when the variable is not set). A jar is
written under another name, checked, and renamed, so a file with its proper name is whole. A lock file beside the jars
lets any number of processes ask at once: one fetches, the others wait.

``python -m tidegate_cloud.broker.jars`` resolves Kafka's dependencies anew and prints the text of `kafka.lock`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from tidegate_protocols.errors import BadInput

KAFKA_VERSION = "4.3.1"
# The "!" keeps log4j's own dependency management from choosing an older kafka-clients.
_ROOTS = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.3!")
_PARALLEL = 8
_TIMEOUT_S = 30

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of `kafka.lock`: the Maven coordinate, the SHA-256 in hex and the size in bytes."""

    coordinate: str
    sha256: str
    size: int

    @property
    def filename(self) -> str:
        _group, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def locked_jars() -> list[Jar]:
    """What `kafka.lock` lists."""
    text = (resources.files(__package__) / "kafka.lock").read_text("utf-8")
    fields = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return [Jar(coordinate, sha256, int(size)) for coordinate, sha256, size in fields]


def cache_dir() -> Path:
    """Where the jars of this Kafka live for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "tidegate" / f"kafka-{KAFKA_VERSION}"


def is_fetched() -> bool:
    """Whether every jar is there, so that `fetch` returns at once."""
    return not _missing(cache_dir(), locked_jars())


def fetch(progress: Progress | None = None) -> list[Path]:
    """Kafka's jars on this disk, fetched first where they are missing.

    Raises BadInput when Maven Central cannot be reached, gives other bytes than `kafka.lock` says, or the cache
    cannot be written.
    """
    folder, jars = cache_dir(), locked_jars()
    if not _missing(folder, jars):
        return [folder / jar.filename for jar in jars]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            missing = _missing(folder, jars)  # another process may have fetched while this one waited
            if missing:
                _download(missing, folder, progress or (lambda done, total: None))
    except OSError as error:
        raise BadInput(
            f"Kafka's jars cannot be kept: {error}", where=str(folder), hint="set XDG_CACHE_HOME to a writable folder"
        ) from None
    return [folder / jar.filename for jar in jars]


def _missing(folder: Path, jars: Sequence[Jar]) -> list[Jar]:
    def size(path: Path) -> int:
        try:
            return path.stat().st_size
        except OSError:
            return -1

    return [jar for jar in jars if size(folder / jar.filename) != jar.size]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # released with the file, also when the process is killed
        yield


def _download(jars: Sequence[Jar], folder: Path, progress: Progress) -> None:
    from jgo.maven import MavenContext

    total, done = sum(jar.size for jar in jars), 0
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as staging:
        context = MavenContext(repo_cache=Path(staging), timeout=_TIMEOUT_S)

        def one(jar: Jar) -> int:
            group, artifact, version = jar.coordinate.split(":")
            try:
                found = context.project(group, artifact).at_version(version).artifact().resolve()
            except OSError:  # requests' own errors are OSErrors too
                raise BadInput(
                    f"{jar.filename} could not be fetched from Maven Central",
                    hint="Kafka is fetched once; the machine needs access to Maven Central for it",
                ) from None
            except RuntimeError:
                raise BadInput(f"{jar.filename} is not to be had from Maven Central") from None
            digest = hashlib.sha256(found.read_bytes()).hexdigest()
            if digest != jar.sha256:
                raise BadInput(
                    f"{jar.filename} has SHA-256 {digest}, not the {jar.sha256} that kafka.lock names",
                    hint="something between here and Maven Central changes files",
                )
            found.replace(folder / jar.filename)
            return jar.size

        with ThreadPoolExecutor(_PARALLEL) as pool:
            progress(0, total)
            try:
                for size in pool.map(one, jars):
                    done += size
                    progress(done, total)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _resolve_lock() -> str:
    """Resolve Kafka's dependencies and return the text of a new `kafka.lock`."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as staging:
        context = MavenContext(repo_cache=Path(staging), timeout=_TIMEOUT_S)
        named, others = context.resolver.resolve([context.create_dependency(root) for root in _ROOTS])
        artifacts = [d.artifact for d in (*named, *others) if d.scope in (None, "compile", "runtime")]
        lines = []
        for artifact in sorted(artifacts, key=str):
            data = artifact.resolve().read_bytes()
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            lines.append(f"{coordinate} {hashlib.sha256(data).hexdigest()} {len(data)}")
    return "\n".join(
        [f"# Apache Kafka {KAFKA_VERSION} and what it needs to run: coordinate, SHA-256, bytes", *lines, ""]
    )


if __name__ == "__main__":
    sys.stdout.write(_resolve_lock())
