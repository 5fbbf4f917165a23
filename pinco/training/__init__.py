"""Training: loop, losses, dataset, checkpoints, validation; used by the toy and by fine-tuning."""
