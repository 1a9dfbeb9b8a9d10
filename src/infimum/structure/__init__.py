"""What hangs on what: the sparsity pattern of the Hessian of log p̂, and its entries."""
