"""The search for q: where fits begin, the only loop, other modes, the surrogate for many rows."""
