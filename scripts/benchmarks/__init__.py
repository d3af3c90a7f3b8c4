"""Benchmarks: each compares the system with a baseline in the same run, and gives medians of several repeats."""
