"""What a mixture is, and what a checkpoint can do, shown to people: tables for the terminal, pictures, a page."""
