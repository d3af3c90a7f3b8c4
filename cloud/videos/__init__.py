"""Episode videos: what the cameras saw, out of the experience log, as MP4 files that a browser plays.

Needs PyAV and Pillow (extra `video`). Everything here reads; nothing holds up the learner, the gateway or a robot.
"""
