"""Parsers of MQTT payloads: SenML JSON (`senml`), Sparkplug B (`sparkplug`), JSON of any shape (`mapped`).

`steady` keeps one schema for devices whose messages do not always hold the same channels.

A parser takes a whole message and returns scans, or raises `BadInput` and returns none of it. The modules
`protowire` and `sparkplug_wire` are what Sparkplug's messages are made of, and `sparkplug_node` is its sending side.
"""
