"""What checkpoints say of their units: one alone, and two by replay."""
