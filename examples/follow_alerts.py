"""Follow a console's alerts from Python: ``python follow_alerts.py http://127.0.0.1:8420``, token in TIDEGATE_TOKEN."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

SUBSCRIPTION = """
subscription ($from: String!) {
  alerts(from: $from) {
    __typename
    ... on AlertChanged { resume alert { id version device state severity title who } }
    ... on AlertRemoved { resume id }
    ... on Behind { behindMs }
    ... on Reload { reason }
  }
}
"""


async def follow(server: str, token: str) -> None:
    """Print every change, for ever."""
    address = server.replace("http", "ws", 1) + "/api/v1/graphql"
    resume = ""  # where to go on; "" is now
    while True:
        try:
            async with connect(
                address, subprotocols=["graphql-transport-ws"], additional_headers={"authorization": f"Bearer {token}"}
            ) as socket:
                await begin(socket, resume)
                async for text in socket:
                    message = json.loads(text)
                    if message["type"] == "ping":
                        await socket.send('{"type":"pong"}')
                    elif message["type"] == "next":
                        resume = take(message["payload"], resume)
                    elif message["type"] in ("error", "complete"):
                        print(f"ended: {message.get('payload')}", flush=True)
                        break
        except InvalidStatus as error:
            if error.response.status_code in (401, 403):
                sys.exit(f"the console does not let this token in: {error}")
        except (OSError, WebSocketException) as error:
            print(f"cut: {error}", file=sys.stderr, flush=True)
        await asyncio.sleep(1)


async def begin(socket: ClientConnection, resume: str) -> None:
    """Say hello, and subscribe from where we were."""
    await socket.send('{"type":"connection_init"}')
    if json.loads(await socket.recv())["type"] != "connection_ack":
        raise ConnectionError("no acknowledgement")
    payload = {"query": SUBSCRIPTION, "variables": {"from": resume}}
    await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": payload}))
    print("following", flush=True)


def take(payload: dict, resume: str) -> str:
    """Print what came; returns where to go on after it."""
    if payload.get("errors"):
        print(f"refused: {payload['errors'][0]['message']}", flush=True)
        return ""
    event = payload["data"]["alerts"]
    match event["__typename"]:
        case "AlertChanged":
            alert = event["alert"]
            who = f" by {alert['who']}" if alert["who"] else ""
            print(f"{alert['state']}{who}: {alert['device']}: {alert['title']} (v{alert['version']})", flush=True)
        case "AlertRemoved":
            print(f"removed: {event['id']}", flush=True)
        case "Behind":
            print(f"we were {event['behindMs']} ms behind", flush=True)
        case "Reload":
            # What we missed is gone: a program that keeps a list of alerts asks for it anew here.
            print(f"reload: {event['reason']}", flush=True)
            return ""
    return event.get("resume", resume)


if __name__ == "__main__":
    try:
        asyncio.run(follow(sys.argv[1].rstrip("/"), os.environ["TIDEGATE_TOKEN"]))
    except KeyboardInterrupt:
        pass
