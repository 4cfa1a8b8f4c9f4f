"""Keep fresh: what a user's login needs at the provider."""
