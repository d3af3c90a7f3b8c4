"""A stand-in for LeRobot."""
