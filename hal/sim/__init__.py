"""MuJoCo simulation out of our own primitive geoms: arms, scenes, tasks, cameras, a scripted operator.

Nothing here imports mujoco at module level except `world.py`, and nothing needs a graphics library except `camera.py`.
"""
