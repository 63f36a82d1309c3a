"""The waist: the run folder, and the one who writes and reads it. No torch, no pandas."""
