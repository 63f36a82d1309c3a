"""`python -m deadneuron` is the command line."""

from importlib import import_module

if __name__ == "__main__":
    # By name, because cli/ lies beside the package in the source tree and above it in the order of rooms.
    raise SystemExit(import_module("deadneuron.cli").main())
