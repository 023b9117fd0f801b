"""The policy: what a delete means, what a prune may remove; it knows no storage."""
