"""The product shown end to end: one FineTuneJob on a real cluster, killed in the middle, finished."""
