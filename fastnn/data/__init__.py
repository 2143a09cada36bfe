"""Tables: files of columns, and their encoding as numbers."""
