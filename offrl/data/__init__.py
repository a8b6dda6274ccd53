"""Datasets: where they come from, how they are stored, and how batches are gathered from them."""
