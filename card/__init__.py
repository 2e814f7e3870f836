"""Finding and making analysis-ready scenes (CARD): products and catalogues become scenes."""
