"""Exceptions that the command line turns into one sentence instead of a traceback."""

from __future__ import annotations


class ClusterError(Exception):
    """Something a person can put right; the message says what is wrong and what to do."""


class NotReady(ClusterError):
    """What was looked at is still starting: worth another look."""
