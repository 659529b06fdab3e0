"""What people write around personal data, one file a language."""
