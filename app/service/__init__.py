"""What the app does, without the page: plain functions of plain values."""
