"""What everything stands on: errors, seeds, compiled programs, processes, memory, extras."""
