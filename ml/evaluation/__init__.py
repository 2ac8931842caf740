"""What a model is worth, measured on data that its training never saw."""
