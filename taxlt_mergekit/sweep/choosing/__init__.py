"""Which point of a grid is chosen, by which criterion, and from which unlabelled documents."""
