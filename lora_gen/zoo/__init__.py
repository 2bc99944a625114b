"""The zoo: content-addressed adapters we learn from, and the catalog that says what they do."""
