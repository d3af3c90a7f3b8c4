"""The hardware layer: robots, cameras and teleoperation devices behind small Protocols, guarded, simulated or real."""
