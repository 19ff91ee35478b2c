"""What a network answers, made into values of modalities on the host or where the network runs."""
