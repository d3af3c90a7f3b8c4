"""Probes: one sort of hardware each. A probe looks at this machine and says what is there, or why it cannot say.

Each is a function of one plain argument that yields resources as plain data; `hal.discovery` runs them in processes of
their own.
"""
