"""What people and programs are shown: progress, tables, answers in JSON, pages."""
