"""Device ids from the configuration's templates."""

from __future__ import annotations

from tidegate_protocols.ids import check_device_id


def device_name(template: str, fields: dict[str, str]) -> str:
    """Fill a configuration's device template, as ``bus-{name}``. Raises BadInput if the result cannot name a device."""
    text = template
    for key, value in fields.items():
        text = text.replace("{" + key + "}", value)
    return check_device_id(text)
