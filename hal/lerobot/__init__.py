"""Any LeRobot robot or teleoperator, run by LeRobot itself in its own environment, whose pins exclude ours.

    here                                      LeRobot's environment
    driver.py: LeRobotRobot ─ starts ───────► bridge.py
               hal.remote.client ◄─ socket ─► hal.remote.server ─ devices.py ─ library.py ─ lerobot

That environment needs Python 3.11 or newer and `lerobot`, `numpy`, `msgspec`, `pyzmq`; ours is not installed there: the
bridge sees our packages `hal` and `user_rl` through a folder of two links.
"""
