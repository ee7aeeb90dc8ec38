"""Tasks: how rows are read, prompted, answered and kept. One task serves training, evaluation and feedback alike."""
