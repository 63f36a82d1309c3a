"""Files of checkpoints, read without running anything that they name; tensors stay on disk and are read row by row."""
