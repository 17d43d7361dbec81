"""Where a registration starts: from the header, from centres, from the shape of the object, or from a search."""

from .auto import Auto
from .mass import CentresOfMass, centre_of_mass
from .moments import Moments
from .search import Search
from .simple import Centres, Header, Initialiser

__all__ = ["Auto", "Centres", "CentresOfMass", "Header", "Initialiser", "Moments", "Search", "centre_of_mass"]
