"""Changed views of a batch that keep its labels true: geometry, light, mixtures."""
