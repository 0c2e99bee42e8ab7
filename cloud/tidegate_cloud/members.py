"""Prints who is in a consumer group, as a JSON list of [client id, member id]; see `kafka.Offsets.members`.

python -m tidegate_cloud.members BOOTSTRAP CLIENT_ID GROUP
"""

from __future__ import annotations

import json
import sys

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from .kafka import REQUEST_S, client_settings


def main(bootstrap: str, client_id: str, group: str) -> None:
    """See the module's docstring. Exits with status 1 and the reason when there is no answer."""
    client = AdminClient(client_settings(bootstrap, client_id))
    try:
        found = client.describe_consumer_groups([group], request_timeout=REQUEST_S)[group].result()
    except KafkaException as error:
        sys.exit(error.args[0].str())
    print(json.dumps([[member.client_id, member.member_id] for member in found.members]))


if __name__ == "__main__":
    main(*sys.argv[1:])
