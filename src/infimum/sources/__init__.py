"""Sources: other ways to state p̂. Each file makes a `Target` of a model in one language."""
