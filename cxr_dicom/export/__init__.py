"""Masks and pictures in the formats of those who train networks. A file is a choice, as in ``encode``."""
