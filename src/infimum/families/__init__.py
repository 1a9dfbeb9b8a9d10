"""The families Q. Each file or folder holds one; a new family is a new file.

`Family` and `Distribution` are the contract, and what is left to choose are capabilities: a
distribution that is `Gaussian`, or any `Pushforward` of a standard normal, or `Hosted`. `Left` and
`Promise` say what a family gains in a climb. Families are imported when they are first asked for.
"""

from infimum.families._distribution import Distribution, Gaussian, Hosted, Pushforward
from infimum.families._family import Family, Left, Promise
from infimum.families._registry import __dir__ as __dir__
from infimum.families._registry import __getattr__ as __getattr__
from infimum.families._registry import family_of, members, named

__all__ = [
    "Distribution",
    "Emulated",
    "Family",
    "Flow",
    "FullRank",
    "Gaussian",
    "Hosted",
    "Left",
    "LowRank",
    "MeanField",
    "Mixture",
    "Nested",
    "Noncentred",
    "Promise",
    "Pushforward",
    "SinhArcsinh",
    "Sparse",
    "family_of",
    "members",
    "named",
]
