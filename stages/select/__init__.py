"""Which samples: those worth a label, an expert or an update, within a budget."""
