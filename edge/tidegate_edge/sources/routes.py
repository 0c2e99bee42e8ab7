"""From an MQTT message to its scans: which subscription it belongs to, whose it is, how its payload is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tidegate_protocols.errors import BadInput
from tidegate_protocols.payload.mapped import Mapping, parse_json
from tidegate_protocols.payload.senml import parse_senml
from tidegate_protocols.payload.sparkplug import SparkplugReader
from tidegate_protocols.scan import Scan

from ..config import Subscription
from ..intake import Intake
from ..names import device_name
from .topics import match

_TOPICS_MAX = 20_000


class _Route:
    """How the messages of one subscription are read."""

    def __init__(self, settings: Subscription) -> None:
        self.settings = settings
        self.mapping: Mapping | None = settings.json.mapping() if settings.json else None
        self.sparkplug = SparkplugReader() if settings.payload == "sparkplug" else None


class Routes:
    """The subscriptions of a source. `publish` sends what a parser wants said (Sparkplug's rebirths)."""

    def __init__(
        self, subscriptions: Sequence[Subscription], intake: Intake, publish: Callable[[str, bytes], object]
    ) -> None:
        self.filters = [each.filter for each in subscriptions]
        self._intake = intake
        self._publish = publish
        self._routes = [_Route(each) for each in subscriptions]
        self._by_topic: dict[str, tuple[_Route, str | None]] = {}

    def read(self, topic: str, payload: bytes) -> Sequence[Scan | BadInput]:
        """The scans of a message. Raises BadInput."""
        route, device = self._route(topic)
        if route.sparkplug is not None:
            try:
                return route.sparkplug.feed(topic, payload)
            finally:
                for command_topic, command in route.sparkplug.take_rebirths():
                    self._publish(command_topic, command)
        if route.mapping is not None:
            return parse_json(payload, device, route.mapping)
        if route.settings.payload == "senml":
            scans = parse_senml(payload, device, now_us=self._intake.clock.wall_us())
        else:
            scans = parse_json(payload, device)
        return self._intake.steady.widen(scans)

    def count(self, topic: str, payload: bytes) -> int:
        """How many scans a repeated message holds. It was readable, or it was counted as one."""
        try:
            route, _ = self._route(topic)
            return len(self.read(topic, payload)) if route.sparkplug is None else 1
        except Exception:  # it was refused, whatever it raised
            return 1

    def _route(self, topic: str) -> tuple[_Route, str | None]:
        """The first subscription that a topic matches, and the device that its template names there."""
        known = self._by_topic.get(topic)
        if known is None:
            for route in self._routes:
                fields = match(route.settings.filter, topic)
                if fields is not None:
                    template = route.settings.device
                    known = route, device_name(template, fields) if template is not None else None
                    break
            else:
                raise BadInput("no subscription matches its topic")
            if len(self._by_topic) >= _TOPICS_MAX:
                self._by_topic.clear()
            self._by_topic[topic] = known
        return known
