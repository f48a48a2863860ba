"""Small models whose weights ship inside the package."""
