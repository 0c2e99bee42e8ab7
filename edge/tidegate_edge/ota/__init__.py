"""Configuration over the air on the agent's side: what comes is verified here, fetched, switched to, and reported.

`verify` checks signatures, versions and expiry with python-tuf, in a child process: its libraries would cost the agent
12 MB for good, and hostile metadata is parsed where nothing else lives.
"""
