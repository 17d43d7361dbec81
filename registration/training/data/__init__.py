"""Pairs of images for training: found, preprocessed, cached, put into an order that can be resumed."""

from __future__ import annotations

from .caches import Cache, DiskCache, MemoryCache, NoCache
from .dataset import Item, OnError, PairDataset
from .pairing import Atlas, ByName, Chosen, First, Fraction, Opposite, Ordered, Pairing, Split, Unordered
from .sampler import PairLoader, PairSampler
from .sources import Parts, Source, SubjectPairs, TablePairs
from .subjects import Decathlon, Files, Folder, Listed, Subject

__all__ = [
    "Atlas",
    "ByName",
    "Cache",
    "Chosen",
    "Decathlon",
    "DiskCache",
    "Files",
    "First",
    "Folder",
    "Fraction",
    "Item",
    "Listed",
    "MemoryCache",
    "NoCache",
    "OnError",
    "Opposite",
    "Ordered",
    "PairDataset",
    "PairLoader",
    "PairSampler",
    "Pairing",
    "Parts",
    "Source",
    "Split",
    "Subject",
    "SubjectPairs",
    "TablePairs",
    "Unordered",
]
