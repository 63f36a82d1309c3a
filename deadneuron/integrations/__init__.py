"""Other people's training code under the monitor, as it is."""
