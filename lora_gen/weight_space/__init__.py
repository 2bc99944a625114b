"""What people do with adapters besides generating them: merge, compress, balance, relate, edit."""
