"""Profiles (default.toml, strict.toml) and labs (lab/*.toml): the only place where thresholds are written."""
