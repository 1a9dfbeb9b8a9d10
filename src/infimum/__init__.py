"""infimum: the member q of a family Q that is nearest to a posterior known up to a constant."""
