"""The `tidegate` command: it ties the ends together, so it alone may import all of them. Nothing imports it.

`main` is the root, which loads each subcommand only when it is called; `demo` runs the whole way on one machine;
`status` says how it goes; `frame` looks into frames; `mqtt_broker` is the demo's own MQTT broker.
"""
