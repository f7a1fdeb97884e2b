"""What others publish becomes a recipe's network or a checkpoint: Hugging Face, Detectron2."""
