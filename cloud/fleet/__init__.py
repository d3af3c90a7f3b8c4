"""The fleet service: one durable process outside every run that knows the cells and leases them."""

from cloud.fleet.ensure import admin_bundle, ensure_fleet
from cloud.fleet.leases import FleetConfig
from cloud.fleet.server import FleetServer, ServeConfig, serve

__all__ = ["FleetConfig", "FleetServer", "ServeConfig", "admin_bundle", "ensure_fleet", "serve"]
