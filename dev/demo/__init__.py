"""The product shown end to end: one FineTuneJob, killed in the middle, on a real cluster."""
