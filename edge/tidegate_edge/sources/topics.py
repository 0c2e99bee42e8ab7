"""MQTT topics and filters: whether a topic matches, and what its wildcards stand for (MQTT 3.1.1, section 4.7)."""

from __future__ import annotations

from tidegate_protocols.errors import BadInput


def check_filter(text: str) -> str:
    """Return `text` if it is a topic filter. Raises BadInput."""
    levels = text.split("/")
    for i, level in enumerate(levels):
        if "#" in level and (level != "#" or i != len(levels) - 1):
            raise BadInput(f"{text!r} is not a topic filter", hint="# stands alone, as the last level")
        if "+" in level and level != "+":
            raise BadInput(f"{text!r} is not a topic filter", hint="+ stands alone in its level")
    if not text or "\0" in text or len(text.encode()) > 65_535:
        raise BadInput(f"{text[:80]!r} is not a topic filter")
    return text


def match(pattern: str, topic: str) -> dict[str, str] | None:
    """What the wildcards of `pattern` stand for in `topic`, the first as "1"; None when it does not match."""
    found: dict[str, str] = {}
    wanted, levels = pattern.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return None
    for i, level in enumerate(wanted):
        if level == "#":
            found[str(len(found) + 1)] = "/".join(levels[i:])
            return found
        if i >= len(levels) or level not in ("+", levels[i]):
            return None
        if level == "+":
            found[str(len(found) + 1)] = levels[i]
    return found if len(levels) == len(wanted) else None
