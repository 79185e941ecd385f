"""The finetune-operator trainer: checks data, plans, trains, checkpoints, resumes, reports."""
