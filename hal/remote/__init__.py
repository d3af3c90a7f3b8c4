"""A Robot, Camera or Teleop that lives in another process or on another machine.

`hal.serve` serves the parts of a cell; `hal.remote.client` is one more Robot, Camera or Teleop that stands for one.
"""
