"""The verbs that check or improve an answer: `correct`, `evidence`, `compare`, `calibrate`."""
