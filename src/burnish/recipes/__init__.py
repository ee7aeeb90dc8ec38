"""Ready recipes: data, a recipe file and, where people are missing, simulated raters."""
