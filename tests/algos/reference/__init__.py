"""Plain loops, written from the papers with torch.nn and torch.optim; no code of offrl is used."""
