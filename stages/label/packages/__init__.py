"""What the tools of packages answer, by tool: writing, faces, speech, languages."""
