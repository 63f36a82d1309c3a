"""Above the waist: pure functions from a recorded run to a `Diagnosis`. No torch."""
