"""Hydra's YAML: only what differs from the dataclasses' defaults."""
