"""What is known of impressions from outside: sources, beliefs, delays, and what is never told."""
