"""The verbs `correct`, `evidence`, `compare` and `calibrate`."""
