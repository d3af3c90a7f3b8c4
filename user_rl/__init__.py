"""The vocabulary that every other package speaks: specs, errors, clock, config, wire format, experience log.

Needs numpy, msgspec, pyzmq, lmdb and grpc only; torch and ray never.
"""
