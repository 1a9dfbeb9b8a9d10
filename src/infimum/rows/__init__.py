"""The target p̂ of many rows: data read in blocks, and sums over them."""
