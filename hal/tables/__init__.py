"""Tables: what a configuration may name, one file each for robots, tasks, cameras, teleops. A driver is one line."""
