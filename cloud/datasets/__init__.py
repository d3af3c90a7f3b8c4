"""Datasets of the field: the experience log as a LeRobotDataset, and LeRobot, robomimic and HIL-SERL data as a log.

Needs the extra `datasets` (pyarrow, h5py, PyAV, pillow); every module imports them when they are used, not before.
"""
