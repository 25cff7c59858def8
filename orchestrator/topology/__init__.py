"""What exists: regions, cells, offers and links, as an operator writes them."""

from orchestrator.topology.load import load_topology
from orchestrator.topology.model import Cell, Link, Offer, OfferKey, OfferKind, Region, Topology
from orchestrator.topology.store import Store

__all__ = ["Cell", "Link", "Offer", "OfferKey", "OfferKind", "Region", "Store", "Topology", "load_topology"]
