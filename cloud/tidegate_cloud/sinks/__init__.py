"""Where what came over Kafka is kept for longer than Kafka keeps it, to be asked for again.

`store` says what a history store does; `duck` is one in a single file, by DuckDB. A store is fed by `follow` and asked
over HTTP through `server`, so that whatever asks need not know which store it is.
"""
