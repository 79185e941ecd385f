"""The frozen base model and the adapter on top of it."""
