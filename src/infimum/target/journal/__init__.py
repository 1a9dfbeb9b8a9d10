"""The journal behind a checkpoint: answers of the target in a folder that outlives the process."""
