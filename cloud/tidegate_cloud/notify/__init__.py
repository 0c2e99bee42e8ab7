"""Telling people: what the alert log asks for goes out by e-mail, chat, push or webhook (docs/notifications.md).

`config` is the file of receivers; `message` the words; `channels` the ways out; `outbox` decides, without I/O, what is
to be sent when; `service` runs it on Kafka.
"""
