"""The finetune operator: turns FineTuneJobs into attempts, and attempts into tuned adapters."""
