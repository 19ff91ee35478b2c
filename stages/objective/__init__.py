"""What a network is taught by: losses of sites, of regions, of whole samples, of what a teacher says."""
