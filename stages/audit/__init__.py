"""What is wrong with data: labels, copies, outliers, empty samples, splits; a score for each sample."""
