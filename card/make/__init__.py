"""Making CARD from Level-1 products, where no archive has it."""
