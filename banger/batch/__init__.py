"""Batches: one plan, many jobs, one verdict. Plans, their jobs, and what is to be said of them."""
