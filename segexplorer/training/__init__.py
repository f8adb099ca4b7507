"""Experiments, plans, the engine, runs and what they leave on the disk."""
