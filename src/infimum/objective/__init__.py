"""The objective KL[q ‖ p̂], the draws it is estimated with, and its quadratic."""
