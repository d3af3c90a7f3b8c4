"""The experience store: the log's rows as an index in memory, drawn exactly, read through a cache."""
