"""What is known of q: its weights and their assessment, draws, tables, and the file."""
