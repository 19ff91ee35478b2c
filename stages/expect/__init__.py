"""What must be so of what a step makes, or the next does not start: measured, judged, said with samples."""
