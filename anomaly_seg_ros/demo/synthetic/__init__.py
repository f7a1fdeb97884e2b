"""A made-up drive through an English street, with odd objects on the road and exact labels."""

from .road import SyntheticFrame, SyntheticRoad

__all__ = ['SyntheticFrame', 'SyntheticRoad']
