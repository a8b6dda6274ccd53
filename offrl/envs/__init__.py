"""Gymnasium environments, several of them stepped together."""
