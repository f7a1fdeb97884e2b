"""YAML recipes, read strictly into configurations."""
