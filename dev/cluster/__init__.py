"""A real Kubernetes on one bare Linux machine, built from pinned Go modules.

Standard library only: it runs with the system's Python, before any virtual environment exists.
"""
