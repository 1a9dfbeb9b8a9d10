"""The objective KL[q ‖ p̂]: its estimate, the draws that it is estimated with, its quadratic."""
