"""Builders of child objects: complete manifests, pure, one module per kind."""
