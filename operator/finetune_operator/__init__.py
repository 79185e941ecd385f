"""The finetune operator: turns FineTuneJobs into attempts, and attempts into tuned adapters."""

from typing import Final

__version__: Final = "0.1.0"
