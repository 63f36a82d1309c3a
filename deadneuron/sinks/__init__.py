"""Places that a run's records go to beside its folder: TensorBoard. No pandas; torch only when a sink is used."""
