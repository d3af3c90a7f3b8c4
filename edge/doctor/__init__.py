"""The doctor: looks at a real cell from end to end before it runs, and says what to fix. `user-rl-edge doctor`."""
