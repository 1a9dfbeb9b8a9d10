"""The target p̂ as users state it: one file, or folder, for each modelling library."""
