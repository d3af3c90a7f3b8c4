"""The daemon on a robot's controller: it owns the robot, keeps the rate, records every step, never waits for a network."""
