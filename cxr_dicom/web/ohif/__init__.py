"""OHIF, the viewer of others: brought here once, then served beside the pages."""
