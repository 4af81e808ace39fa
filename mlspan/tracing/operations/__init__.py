"""Operations: what one call says of itself while it runs, from its record to the span that ends."""
