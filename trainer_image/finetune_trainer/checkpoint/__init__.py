"""Checkpoints on the volume: what is written, what may be believed, which one to start from."""
