"""Deliver: one module or folder for each kind of Spawner."""
