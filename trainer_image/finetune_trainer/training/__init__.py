"""One attempt in the pods: what the launcher starts, step by step."""
