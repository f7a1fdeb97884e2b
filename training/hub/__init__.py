"""A folder or repository of Hugging Face becomes a recipe's network, or a checkpoint."""
