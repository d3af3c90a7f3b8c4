"""Acting from afar: an observation goes to whoever infers, a chunk of actions comes back, and control never waits."""
