"""What a process has around it: folders, output, proxies, its end, and whether another process is gone."""
