"""Emulators: devices that speak their own protocol on a loopback port or a pseudo-terminal, for tests and dry runs.

They are written from public descriptions of the protocols. Faults are theirs: tests and the command line set them.
Each runs by itself: `python -m hal.emulators.NAME` prints the address to give to the driver.
"""
