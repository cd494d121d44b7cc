"""What a mixture is, shown to people: terminal tables for now."""
