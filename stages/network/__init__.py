"""What a network is: inputs, encoders, trunks, heads, masks; and how a trained one is asked."""
