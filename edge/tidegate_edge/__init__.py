"""The agent on the device: takes readings from serial ports and MQTT, and loses none of them on the way to Kafka.

    sources ─scans→ intake ─(window)→ spool ─frames→ uplink ─→ Kafka
       ▲                                │
       └──────── acknowledgement ───────┘ after fsync

`config` reads the one TOML file, `agent` puts the parts together, `metrics` shows the books, `cli` is the command.
`boot` chooses what to start with, `reload` tries a new configuration, `last_good` remembers the one to go back to.
"""
