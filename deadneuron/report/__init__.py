"""One `Diagnosis`, many reporters. Each is a pure function of the diagnosis; none computes a number."""
