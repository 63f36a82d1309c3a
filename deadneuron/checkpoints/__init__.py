"""Checkpoints: what weights and optimizer state alone say of dead units. Files are read safely, row by row."""
