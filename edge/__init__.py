"""The daemon on a robot's controller: it owns the robot, keeps the rate, records every step, waits for no network."""
