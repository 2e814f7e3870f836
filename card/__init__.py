"""Finding and making analysis-ready scenes (CARD): products and catalogues in, catalogue rows out."""
