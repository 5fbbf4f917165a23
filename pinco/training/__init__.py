"""The one trainer: loop, losses, dataset, checkpoint, validation. The toy and the fine-tune flow both use it."""
