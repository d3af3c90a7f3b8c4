"""Shards: several gateways and logs for one run, and which of them has which part of which stream."""
