"""What makes decisions happen: queue, reconciler, executor, sweeps and scrapes."""
