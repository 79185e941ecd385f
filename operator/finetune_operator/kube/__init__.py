"""The Kubernetes API as this operator needs it: a few verbs, typed errors, one lease."""
